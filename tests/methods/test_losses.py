"""The whole loss of Baseline and FCAENet against loops over photos and codes, written from the formulas."""

from typing import Any

import pytest
import torch
from torch import nn

from milvus_fghash.methods import baseline, fcaenet
from milvus_fghash.methods.base import Sizes
from milvus_fghash.recipes.schema import HeadChoice
from tests.helpers.pair_loops import pairs_by_loops
from tests.helpers.small_method import BITS, LABELS, C, Flat, N, batch, made, round_of


@pytest.mark.parametrize("gamma", [200.0, 0.0])
def test_baseline_is_the_printed_objective(gamma: float) -> None:
    method, photos = made(baseline, gamma=gamma), batch(("anchor",))
    terms = method.loss(photos)
    u = torch.tanh(method.head(photos.features["anchor"])).detach()
    scale = 12 / BITS / (2 * N)
    assert terms["pairs"].item() == pytest.approx(scale * pairs_by_loops(method, u, photos.rows), rel=1e-5)
    assert ("quantisation" in terms) == (gamma > 0)
    if gamma:
        apart = sum(float((u[i] - method.signs[row]).square().sum()) for i, row in enumerate(photos.rows))
        assert terms["quantisation"].item() == pytest.approx(scale * gamma * apart, rel=1e-5)


def test_codes_start_as_each_photos_own_or_as_those_of_their_classes() -> None:
    assert len(set(map(tuple, made(baseline).signs.tolist()))) == N
    method = made(baseline, start="classes", seed=3)
    codes: list[set[tuple[float, ...]]] = [set() for _ in range(C)]
    for label, code in zip(LABELS.tolist(), method.signs.tolist(), strict=True):
        codes[label].add(tuple(code))
    assert [len(of_class) for of_class in codes] == [1] * C
    assert len(set.union(*codes)) == C
    assert not torch.equal(method.signs, made(baseline, start="classes").signs)
    solved = method.signs.neg()
    method.signs.copy_(solved)
    method.before_round(round_of(number=1))
    assert torch.equal(method.signs, solved)


def test_without_the_later_factor_the_loss_of_long_codes_is_not_scaled() -> None:
    def terms(**options: Any) -> dict[str, float]:
        torch.manual_seed(0)
        method = baseline.Method(Flat(), HeadChoice(), Sizes(36, C, N), baseline.Config(**options))
        method.before_round(round_of())
        return {name: value.item() for name, value in method.loss(batch()).items()}

    assert terms(scale="none") == pytest.approx({name: 3 * value for name, value in terms().items()})


@pytest.mark.parametrize("distance", ["plain", "cosine"])
def test_fcaenet_adds_the_two_pulls(distance: str) -> None:
    method = made(fcaenet, alpha=30.0, beta=70.0, distance=distance)
    photos = batch(("anchor", "positive", "erased"))
    terms = method.loss(photos)
    assert list(terms) == ["pairs", "quantisation", "positive", "erased"]
    u = {name: torch.tanh(method.head(value)).detach() for name, value in photos.features.items()}
    for name, weight in (("positive", 30.0), ("erased", 70.0)):
        apart = 0.0
        for i in range(2):
            first, second = u["anchor"][i], u[name][i]
            if distance == "cosine":
                first, second = (x / x.norm() * BITS**0.5 for x in (first, second))
            apart += float((first - second).square().sum())
        assert terms[name].item() == pytest.approx(12 / BITS / (2 * N) * weight * apart, rel=1e-4)
    plain = made(baseline)
    assert terms["pairs"].item() == pytest.approx(plain.loss(photos)["pairs"].item())


def test_gradients_reach_all_three_branches() -> None:
    # FCAENet eq. 14-15: g_p = -2 alpha (h_a - h_p) (1 - h_p^2), and so on.
    method = made(fcaenet)
    photos = batch(("anchor", "positive", "erased"))
    for value in photos.features.values():
        value.requires_grad_()
    terms = method.loss(photos)
    (terms["positive"] + terms["erased"]).backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in photos.features.values())


@pytest.mark.parametrize(
    ("options", "names"),
    [({"alpha": 0.0}, {"erased"}), ({"beta": 0.0}, {"positive"}), ({"alpha": 0.0, "beta": 0.0}, set())],
)
def test_a_weight_of_zero_leaves_its_part_out(options: dict[str, Any], names: set[str]) -> None:
    method = made(fcaenet, **options)
    assert method.wants_positives == ("positive" in names)
    assert set(method.embed(torch.randn(2, 3, 16, 16))) == {"anchor"} | (names & {"erased"})
    wanted = ("anchor", *(name for name in ("positive", "erased") if name in names))
    assert set(method.loss(batch(wanted))) == {"pairs", "quantisation"} | names


def test_the_code_step_sees_each_photo_at_its_own_place() -> None:
    """The last outputs are written by position in the round, the quantisation term reads by row of the database."""
    method, photos = made(baseline), batch(("anchor",))
    method.loss(photos)
    u = torch.tanh(method.head(photos.features["anchor"])).detach()
    torch.testing.assert_close(method.u[2], u[0])  # photo 5 stands third in the round
    torch.testing.assert_close(method.u[1], u[1])  # photo 0 stands second
    assert method.u[0].abs().sum() == method.u[3].abs().sum() == 0


def test_erased_pixels_are_of_the_mean_colour_or_black() -> None:
    """All pixels are as hot, so all of the photo is erased by a box of its size at the first one."""
    photo = torch.ones(1, 3, 224, 224)
    mean, black = (made(fcaenet, boxes=1, box_size=224, erased_to=colour) for colour in ("mean", "black"))
    assert mean.embed(photo)["erased"].abs().max() == 0
    expected = black.backbone(black.backbone.normalise(torch.zeros(1, 3, 224, 224, dtype=torch.uint8)))
    assert expected.abs().max() > 0
    torch.testing.assert_close(black.embed(photo)["erased"], expected)
    assert mean.embedding_key != black.embedding_key


@pytest.mark.parametrize(("box_at", "side"), [("corner", 16), ("centre", 8)])
def test_box_size_follows_the_photo_size(box_at: str, side: int) -> None:
    """All pixels are as hot, so the first one is taken, in the photo's corner."""
    method = made(fcaenet, boxes=1, box_size=32, box_at=box_at)
    photo = torch.ones(1, 3, 112, 112)
    erased_share = 1 - method.embed(photo)["erased"][0, 0].item()
    assert erased_share == pytest.approx(side**2 / 112**2)
    assert method.embedding_key.startswith("anchor+erased-1x32")
    assert (method.embedding_key == made(fcaenet, boxes=1, box_size=32).embedding_key) == (box_at == "corner")


def test_dropout_and_batch_norm_see_all_three_together() -> None:
    method = made(fcaenet, HeadChoice(kind="mlp", hidden=4))
    assert [type(layer) for layer in method.head] == [nn.Dropout, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    method.loss(batch(("anchor", "positive", "erased")))
    assert int(method.head.norm.num_batches_tracked) == 1
