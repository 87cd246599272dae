"""FISH: filters and erasing against loops, each step of the class codes against its objective."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from milvus_fghash.errors import DataError
from milvus_fghash.methods import fish
from milvus_fghash.methods.base import Sizes, generator
from milvus_fghash.methods.classified import erase_hottest
from milvus_fghash.methods.fish import spatial_filter
from milvus_fghash.recipes.schema import HeadChoice
from milvus_fghash.training.backbones import build_backbone
from tests.helpers.small_method import BITS, LABELS, batch, made


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(signs: Tensor) -> set[tuple[float, ...]]:
    return {tuple(row.tolist()) for row in signs}


def random_rotation(size: int, seed: int) -> Tensor:
    rotation: Tensor = torch.linalg.qr(random(size, size, seed=seed))[0]
    return rotation


# Class codes: with c bits and 3 or 9 classes, so that either side of the label map is the longer one.


@pytest.mark.parametrize("n_classes", [3, 9])
def test_the_label_map_is_where_its_objective_is_flat(n_classes: int) -> None:
    vectors = random(5, n_classes)
    label_map = fish.best_label_map(vectors).requires_grad_()
    objective = (torch.eye(n_classes, dtype=torch.float64) - label_map @ vectors).square().sum()
    assert torch.autograd.grad(objective, label_map)[0].abs().max() < 1e-9
    # as printed, L V^T (V V^T)^+
    torch.testing.assert_close(label_map.detach(), vectors.T @ torch.linalg.pinv(vectors @ vectors.T))


@pytest.mark.parametrize("n_classes", [3, 9])
def test_the_vectors_are_where_their_objective_is_flat(n_classes: int) -> None:
    label_map, rotation = 0.02 * random(n_classes, 5), random_rotation(5, seed=1)
    signs = random(5, n_classes, seed=2).sign()
    vectors = fish.best_vectors(label_map, rotation, signs).requires_grad_()
    labels = (torch.eye(n_classes, dtype=torch.float64) - label_map @ vectors).square().sum()
    objective = labels + 1e-4 * (signs - rotation @ vectors).square().sum()
    assert torch.autograd.grad(objective, vectors)[0].abs().max() < 1e-12
    assert vectors.abs().max() > 0.1


def test_no_rotation_fits_better() -> None:
    signs, vectors = random(5, 9, seed=1).sign(), random(5, 9, seed=2)
    rotation = fish.best_rotation(signs, vectors)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(5, dtype=torch.float64))
    least = (signs - rotation @ vectors).square().sum()
    for seed in range(200):
        turn = torch.linalg.matrix_exp(0.01 * (random(5, 5, seed=seed) - random(5, 5, seed=seed).T))
        for other in (turn @ rotation, random_rotation(5, seed)):
            assert (signs - other @ vectors).square().sum() >= least - 1e-9


def codes_of_photos(vectors: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """The steps as printed, with a column for each photo; (c, n) random vectors -> (n, c) signs."""
    targets = F.one_hot(labels, n_classes).T.double()
    rotation = torch.eye(len(vectors), dtype=torch.float64)
    for _ in range(15):
        signs = (rotation @ vectors).sign()
        label_map = targets @ vectors.T @ torch.linalg.inv(vectors @ vectors.T)
        gram = label_map.T @ label_map + 1e-4 * rotation.T @ rotation
        vectors = torch.linalg.inv(gram) @ (label_map.T @ targets + 1e-4 * rotation.T @ signs)
        left, _, right = torch.linalg.svd(signs @ vectors.T)
        rotation = left @ right
    return (rotation @ vectors).sign().T


def test_photos_that_start_from_one_vector_for_their_class_get_the_code_of_the_class() -> None:
    labels = torch.arange(60).repeat_interleave(3)
    start = torch.randn(24, 60, generator=generator(3, 0), dtype=torch.float64)
    of_photos = codes_of_photos(start[:, labels], labels, 60)
    assert len(rows(of_photos)) == 60  # so no code was moved to keep it apart
    torch.testing.assert_close(of_photos.float(), fish.class_codes(60, 24, seed=3, starts=1)[labels])


def test_photos_with_a_start_of_their_own_agree_in_the_end() -> None:
    labels = torch.arange(20).repeat_interleave(7)
    codes = codes_of_photos(random(10, len(labels)), labels, 20)
    assert len(rows(torch.cat([codes, labels[:, None]], dim=1))) == 20


def test_a_taken_code_turns_where_it_is_least_sure() -> None:
    vectors = torch.tensor([[0.9, 0.0], [0.5, 0.2], [0.3, 0.4], [0.1, 0.8]])
    # A zero counts as +. The 2nd turns its bit 1 (0.2), the 3rd its bit 0 (0.3), the 4th would turn bit 0, then 1, and
    # must turn both.
    assert fish.distinct_signs(vectors).tolist() == [[1, 1], [1, -1], [-1, 1], [-1, -1]]


def test_of_a_long_code_only_the_least_sure_bits_turn() -> None:
    vectors = torch.arange(14.0, 0.0, -1.0).repeat(3, 1)
    apart = fish.distinct_signs(vectors) - 1
    assert apart.nonzero().tolist() == [[1, 13], [2, 12]]


def test_more_classes_than_codes_are_rejected() -> None:
    with pytest.raises(DataError, match="2 bits give too few codes for 5 classes"):
        fish.distinct_signs(torch.ones(5, 2))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 16))
def test_each_row_has_the_nearest_code_that_the_rows_before_left(seed: int, n: int) -> None:
    vectors = random(n, 4, seed=seed)
    signs = fish.distinct_signs(vectors)
    codes = torch.cartesian_prod(*[torch.tensor([1.0, -1.0], dtype=torch.float64)] * 4)
    left = [tuple(code.tolist()) for code in codes]
    for vector, row in zip(vectors, signs, strict=True):
        nearest = min(left, key=lambda code: float((torch.tensor(code) - vector).square().sum()))
        assert tuple(row.tolist()) == nearest
        left.remove(nearest)


def test_separation_worked_by_hand() -> None:
    signs = torch.tensor([[1, 1, 1, 1], [1, 1, -1, -1], [-1, -1, 1, -1], [-1, 1, 1, -1]]).float()
    # distances 2, 3, 2; 3, 2; 1
    assert fish.separation(signs) == (1, -1)
    assert fish.separation(signs[:3]) == (2, -1)
    assert fish.separation(signs[[0, 1, 3]]) == (2, -3)


@pytest.mark.parametrize(("n_classes", "n_bits"), [(4, 48), (100, 12), (200, 8)])
def test_no_two_classes_share_a_code(n_classes: int, n_bits: int) -> None:
    codes = fish.class_codes(n_classes, n_bits, starts=2)
    assert codes.shape == (n_classes, n_bits)
    assert set(codes.flatten().tolist()) == {1.0, -1.0}
    assert len(rows(codes)) == n_classes
    assert torch.equal(codes, fish.class_codes(n_classes, n_bits, starts=2))
    assert not torch.equal(codes, fish.class_codes(n_classes, n_bits, seed=1, starts=2))


def test_more_starts_never_bring_classes_closer() -> None:
    least = [fish.separation(fish.class_codes(30, 16, starts=starts)) for starts in range(1, 9)]
    assert least == sorted(least)
    assert least[-1] > least[0]


# The network.


def test_the_class_filter_worked_by_hand() -> None:
    logits = torch.tensor([[1.0, 3, -2], [-1, -4, -2], [2, 2, 0]])
    expected = torch.tensor([[0.7, 3, -1.4], [-1, -2.8, -1.4], [2, 2, 0]])
    torch.testing.assert_close(fish.class_filter(logits, 0.7), expected)


@pytest.mark.parametrize("head", [HeadChoice(), HeadChoice(kind="mlp", hidden=4, dropout=0.0)])
def test_the_loss_is_the_printed_one(head: HeadChoice) -> None:
    method, photos = made(fish, head, erasing=0.25), batch(("anchor", "erased"), rows=(7, 5))
    terms = method.loss(photos)
    logits = method.head.classes(torch.cat([photos.features["anchor"], photos.features["erased"]])).detach()
    apart = 0.0
    for i, label in enumerate(photos.labels):
        filtered = [(1.0 if z == logits[i].max() else 0.7) * float(z) for z in logits[i]]
        for bit in range(BITS):
            output = float(
                (method.head.bits.weight[bit] @ torch.tensor(filtered) + method.head.bits.bias[bit]).detach()
            )
            apart += (output - float(method.codes[label, bit])) ** 2
    surprise = [float(z.exp().sum().log() - z[y]) for z, y in zip(logits, photos.labels.repeat(2), strict=True)]
    assert terms["codes"].item() == pytest.approx(apart / (2 * BITS), rel=1e-5)
    assert terms["classes"].item() == pytest.approx(sum(surprise[:2]) / 2, rel=1e-5)
    assert terms["erased"].item() == pytest.approx(0.25 * sum(surprise[2:]) / 2, rel=1e-5)


def test_the_spatial_filter_worked_by_hand() -> None:
    first = torch.tensor([[[1.0, 2], [3, 6]], [[0.0, 2], [0, 2]]])  # sums 1, 4, 3, 8: mean 4, and 4 is not above it
    second = torch.tensor([[[9.0, 0], [0, 0]], [[0.0, 1], [1, 1]]])  # sums 9, 1, 1, 1: mean 3
    kept = torch.tensor([[[0.5, 0.5], [0.5, 1]], [[1, 0.5], [0.5, 0.5]]])
    maps = torch.stack([first, second]).requires_grad_()
    filtered = spatial_filter(maps, 0.5)
    torch.testing.assert_close(filtered, maps * kept[:, None])
    (gradient,) = torch.autograd.grad(filtered.sum(), maps)
    torch.testing.assert_close(gradient, kept[:, None].expand_as(maps))


def test_places_keep_their_side_of_the_mean_in_half_precision() -> None:
    maps = torch.rand(4, 64, 7, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    halved = spatial_filter(maps, 0.5) != maps
    assert torch.equal(halved, spatial_filter(maps.float(), 0.5) != maps.float())


def test_both_views_are_embedded_and_each_of_the_filters_is_in_use() -> None:
    method = made(fish)
    images = random(2, 3, 8, 8).float()
    maps = method.backbone.maps(images)
    features = method.embed(images)
    filtered = spatial_filter(maps, 0.5)
    torch.testing.assert_close(features["anchor"], filtered.mean(dim=(2, 3)))
    torch.testing.assert_close(features["erased"], method.features(erase_hottest(images, maps, 0.9)))
    assert not torch.equal(features["anchor"], features["erased"])
    torch.testing.assert_close(method.attentions(images), filtered.mean(dim=1, keepdim=True))
    logits = method.head.classes(features["anchor"])
    torch.testing.assert_close(method(images), method.head.bits(fish.class_filter(logits, 0.7)))


def test_erasing_of_zero_is_left_out() -> None:
    method = made(fish, erasing=0.0)
    assert set(method.embed(torch.randn(2, 3, 16, 16))) == {"anchor"}
    assert set(method.loss(batch())) == {"classes", "codes"}
    assert method.embedding_key == "anchor"


@pytest.mark.parametrize("options", [{"background": 0.2}, {"background": 1.0}, {"hottest": 0.5}, {"erasing": 0.0}])
def test_what_changes_the_features_changes_their_name(options: dict[str, Any]) -> None:
    def name(**chosen: Any) -> tuple[str, str]:
        method = made(fish, **chosen)
        return method.features_key, method.embedding_key

    assert name(**options) != name()
    assert name(others=0.1, seed=3) == name()
    assert name(background=1.0, erasing=0.0) == ("pooled", "anchor"), "the backbone's own features, as of other methods"


def test_the_gallery_has_the_code_of_each_photos_class() -> None:
    method = made(fish, seed=7)
    assert method.learned_source == "class codes"
    assert torch.equal(method.codes, fish.class_codes(3, BITS, 7))
    codes = method.learned_codes(LABELS)
    assert all(torch.equal(codes[row], method.codes[label]) for row, label in enumerate(LABELS))


def test_features_are_scaled_before_they_become_logits() -> None:
    method = made(fish, HeadChoice(standardise=True))
    features = 3 + 5 * random(8, 6).float()
    assert method.wants_features
    assert not made(fish).wants_features
    method.fit(features, LABELS)
    scaled = method.head.classes.standardise(features)
    torch.testing.assert_close(scaled.mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(dim=0, correction=0), torch.ones(6))


def test_a_code_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    method = fish.Method(build_backbone("tiny", "none"), HeadChoice(), Sizes(BITS, 3, 8), fish.Config()).eval()
    images = torch.randn(3, 3, 96, 96)
    images[1] += 3
    with torch.no_grad():
        together, both = method(images), method.embed(images)["erased"]
        torch.testing.assert_close(torch.cat([method(photo[None]) for photo in images]), together)
        alone = torch.cat([method.embed(photo[None])["erased"] for photo in images])
    torch.testing.assert_close(alone, both)
