"""The triplet loss of FPH against loops, and what each half of the code comes from."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from milvus_fghash.methods import fph
from milvus_fghash.methods.base import Batch, Sizes
from milvus_fghash.methods.fph import ConsensusFusion, PyramidHead, triplet_loss
from milvus_fghash.recipes.schema import HeadChoice
from milvus_fghash.training.backbones import build_backbone


def made(bits: int = 13, head: HeadChoice | None = None, **options: Any) -> fph.Method:
    torch.manual_seed(0)
    return fph.Method(build_backbone("tiny", "none"), head or HeadChoice(), Sizes(bits, 3, 8), fph.Config(**options))


def photos(n: int = 4, size: int = 64) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def triplets_by_loops(u: Tensor, positives: list[int], labels: list[int], margin: float) -> float:
    hinges = []
    for a, p in enumerate(positives):
        for n in range(len(u)):
            if labels[n] != labels[a]:
                near, far = (u[a] - u[p]).square().sum().item(), (u[a] - u[n]).square().sum().item()
                hinges.append(max(0.0, near - far + margin))
    return sum(hinges) / len(hinges) / u.shape[1]


def test_triplets_worked_by_hand() -> None:
    u = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    loss = triplet_loss(u, torch.tensor([1, 0, 2]), torch.tensor([0, 0, 1]), 4.0)
    # anchor 0: 1 - 4 + 4 = 1; anchor 1: 1 - 5 + 4 = 0; anchor 2 is its own positive: 0 - 4 + 4 = 0 and 0 - 5 + 4 < 0
    assert loss.item() == pytest.approx(1 / 4 / 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_triplet_loss_is_that_of_the_loops(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    u = torch.randn(6, 5, generator=random, dtype=torch.float64).tanh()
    positives = torch.randint(6, (6,), generator=random)
    labels = torch.randint(3, (6,), generator=random)
    labels[:2] = torch.tensor([0, 1])
    expected = triplets_by_loops(u, positives.tolist(), labels.tolist(), 2.5)
    assert triplet_loss(u, positives, labels, 2.5).item() == pytest.approx(expected)


def test_a_batch_of_one_class_has_no_triplet() -> None:
    u = torch.randn(4, 3, requires_grad=True)
    loss = triplet_loss(u, torch.tensor([1, 0, 3, 2]), torch.zeros(4, dtype=torch.int64), 1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert u.grad is not None
    assert u.grad.abs().sum() == 0


def test_either_photo_is_the_others_positive() -> None:
    method = made(margin=0.25)
    width = method.features(photos()).shape[1]
    random = torch.Generator().manual_seed(2)
    features = {name: torch.randn(3, width, generator=random) for name in ("anchor", "positive")}
    labels = torch.tensor([0, 1, 1])
    terms = method.loss(Batch(torch.tensor([4, 0, 2]), labels, features))
    assert list(terms) == ["triplets"]
    u = torch.tanh(method.head(torch.cat([features["anchor"], features["positive"]]))).detach()
    expected = triplets_by_loops(u, [3, 4, 5, 0, 1, 2], [0, 1, 1, 0, 1, 1], 0.25 * 13)
    assert terms["triplets"].item() == pytest.approx(expected, rel=1e-5)


def test_consensus_weighs_the_stages_of_each_photo() -> None:
    torch.manual_seed(0)
    fusion = ConsensusFusion((4, 6), 5).eval()
    maps = [torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)]
    fused = fusion(maps)
    assert fusion.score is not None
    for photo in range(2):
        pooled = [fusion.project[k](maps[k])[photo].mean(dim=(1, 2)) for k in range(2)]
        weights = torch.tensor([fusion.score(value).exp().item() for value in pooled])
        expected = sum(weights[k] / weights.sum() * pooled[k] for k in range(2))
        torch.testing.assert_close(fused[photo], expected)


def test_the_last_stage_is_seen_whole_and_by_quarters() -> None:
    method = made().eval()
    with torch.no_grad():
        features, last = method.features(photos(size=128)), method.backbone.maps(photos(size=128))
    assert last.shape[1:] == (128, 4, 4)
    assert features.shape == (4, 5 * 128 + 512)
    torch.testing.assert_close(features[:, :128], last.mean(dim=(2, 3)))
    quarters = features[:, 128 : 5 * 128].view(4, 128, 4)
    torch.testing.assert_close(quarters[:, :, 1], last[:, :, :2, 2:].mean(dim=(2, 3)))  # above, on the right
    torch.testing.assert_close(quarters[:, :, 2], last[:, :, 2:, :2].mean(dim=(2, 3)))


def test_the_grids_of_the_vertical_pyramid_are_an_option() -> None:
    method, whole = made(grids=[4, 2]).eval(), made(grids=[]).eval()
    with torch.no_grad():
        features, last = method.features(photos(size=128)), method.backbone.maps(photos(size=128))
        assert features.shape == (4, (1 + 16 + 4) * 128 + 512)
        torch.testing.assert_close(features[:, 128 : 17 * 128], last.flatten(1))
        assert whole(photos()).shape == (4, 13)
        assert whole.features(photos()).shape == (4, 128 + 512)
    assert len({of.features_key for of in (method, whole, made(), made(consensus="equal"))}) == 4


def test_stages_of_equal_say_have_no_weights() -> None:
    method = made(consensus="equal").eval()
    maps = method.backbone.stage_maps(photos())[:3]
    pooled = [project(of_stage).mean(dim=(2, 3)) for project, of_stage in zip(method.fusion.project, maps, strict=True)]
    torch.testing.assert_close(method.fusion(maps), sum(pooled) / 3)
    assert not [name for name, _ in method.named_parameters() if "score" in name]


def test_the_lower_stages_are_the_detail() -> None:
    method = made().eval()
    with torch.no_grad():
        detail = method.features(photos())[:, 5 * 128 :]
        torch.testing.assert_close(detail, method.fusion(method.backbone.stage_maps(photos())[:3]))


def test_each_pyramid_makes_its_own_bits() -> None:
    torch.manual_seed(0)
    head, features = PyramidHead(HeadChoice(), 10, 4, 13), torch.randn(2, 14)
    outputs = head(features)
    assert outputs.shape == (2, 13)
    other = torch.cat([features[:, :10], features[:, 10:] + 1], dim=1)
    assert (head(other) == outputs).tolist() == [[True] * 6 + [False] * 7] * 2
    other = torch.cat([features[:, :10] + 1, features[:, 10:]], dim=1)
    assert (head(other) == outputs).tolist() == [[False] * 6 + [True] * 7] * 2


def test_only_the_last_stage_is_standardised() -> None:
    method = made(head=HeadChoice(standardise=True))
    assert method.wants_features
    features = torch.randn(20, 5 * 128 + 512) * 3 + 1
    method.fit(features, torch.zeros(20))
    torch.testing.assert_close(method.head.semantic.standardise.mean, features[:, : 5 * 128].mean(dim=0))
    assert not hasattr(method.head.detail, "standardise")


def test_every_weight_is_trained() -> None:
    method = made()
    features = {"anchor": method.embed(photos())["anchor"], "positive": method.features(photos().flip(3))}
    terms = method.loss(Batch(torch.arange(4), torch.tensor([0, 1, 2, 1]), features))
    terms["triplets"].backward()  # type: ignore[no-untyped-call]
    idle = [name for name, weight in method.named_parameters() if weight.grad is None or not weight.grad.any()]
    # A softmax over the stages does not change when all scores move together.
    assert set(idle) <= {"fusion.score.bias"}
