"""ExchNet: distances, means and the whole loss against loops; when and what is exchanged."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from milvus_fghash.errors import ConfigError
from milvus_fghash.methods import exchnet
from milvus_fghash.methods.base import Batch, Round, Sizes
from milvus_fghash.methods.class_codes import class_means
from milvus_fghash.recipes.schema import HeadChoice
from milvus_fghash.training.backbones import build_backbone
from tests.helpers.pair_loops import pairs_by_loops
from tests.helpers.small_method import BITS, LABELS, C, N, round_of, settle

M, K = 3, 128
ROWS = torch.tensor([5, 0])


def made(head: HeadChoice | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    backbone = build_backbone("tiny", "none")
    return exchnet.Method(backbone, head or HeadChoice(), Sizes(BITS, C, N), exchnet.Config(n_maps=M, **options))


def features(n: int, seed: int = 1) -> Tensor:
    return torch.randn(n, (M + 1) * K, generator=torch.Generator().manual_seed(seed))


def batch(rows: Tensor = ROWS) -> Batch:
    heat = torch.randn(len(rows), M, 4, generator=torch.Generator().manual_seed(2))
    return Batch(rows, LABELS[rows], {"anchor": features(len(rows)), "heat": heat})


def softmax(values: Tensor) -> list[float]:
    exponentials = [math.exp(float(value)) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def hellinger_by_loops(logits: Tensor) -> float:
    """Mean over the pairs of one photo's M distributions."""
    distances = []
    for j in range(len(logits)):
        for other in range(j + 1, len(logits)):
            p, q = softmax(logits[j]), softmax(logits[other])
            apart = sum((math.sqrt(a) - math.sqrt(b)) ** 2 for a, b in zip(p, q, strict=True))
            distances.append(math.sqrt(apart) / math.sqrt(2))
    return sum(distances) / len(distances)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 6))
def test_hellinger_is_the_loop(seed: int, n_parts: int, width: int) -> None:
    logits = torch.randn(2, n_parts, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3
    assert exchnet.hellinger(logits).tolist() == pytest.approx(
        [hellinger_by_loops(photo) for photo in logits], abs=1e-7
    )


def test_hellinger_worked_by_hand() -> None:
    # softmax (1/4, 3/4) and (3/4, 1/4): roots differ by (sqrt 3 - 1) / 2 twice, so H = (sqrt 3 - 1) / 2
    logits = torch.tensor([[[0.0, math.log(3)], [math.log(3), 0.0]]])
    assert exchnet.hellinger(logits).item() == pytest.approx((math.sqrt(3) - 1) / 2)


def test_hellinger_of_equal_and_of_disjoint_parts_has_a_finite_slope() -> None:
    logits = torch.tensor([[[1.0, 2.0], [1.0, 2.0]], [[300.0, 0.0], [0.0, 300.0]]], requires_grad=True)
    distances = exchnet.hellinger(logits)
    assert distances.tolist() == [0.0, 1.0]
    distances.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_class_means_are_those_of_each_class_alone() -> None:
    values = torch.randn(N, 2, 3, generator=torch.Generator().manual_seed(0))
    means = class_means(values, LABELS, C + 1)
    for label in range(C):
        members = [values[row] for row in range(N) if LABELS[row] == label]
        torch.testing.assert_close(means[label], sum(members, torch.zeros(2, 3)) / len(members))
    assert means[C].abs().max() == 0


def test_the_loss_is_the_printed_one() -> None:
    method, photos = made(spatial=0.3, channel=0.7, threshold=0.6), batch()
    method.before_round(round_of(0, 40))  # asks for no pass over all photos
    terms = method.loss(photos)
    assert list(terms) == ["pairs", "spatial", "channel"]
    u = torch.tanh(method.head(photos.features["anchor"])).detach()
    assert terms["pairs"].item() == pytest.approx(12 / BITS / (2 * N) * pairs_by_loops(method, u, ROWS), rel=1e-5)
    torch.testing.assert_close(method.u[[2, 1]], u)
    places = [1 - hellinger_by_loops(heat) for heat in photos.features["heat"]]
    assert terms["spatial"].item() == pytest.approx(0.3 * sum(places) / 2, rel=1e-4)
    parts = photos.features["anchor"].view(2, M + 1, K)[:, :M]
    channels = [max(0.0, 0.6 - hellinger_by_loops(photo)) for photo in parts]
    assert min(channels) > 0
    assert terms["channel"].item() == pytest.approx(0.7 * sum(channels) / 2, rel=1e-4)


def test_photos_whose_parts_are_apart_enough_are_left_alone() -> None:
    method, photos = made(channel=1.0, threshold=0.2), batch()
    method.before_round(round_of(0, 40))
    photos.features["anchor"][0] *= 0.01  # all channels of all its parts are nearly alike
    parts = photos.features["anchor"].view(2, M + 1, K)[:, :M]
    near, far = (hellinger_by_loops(photo) for photo in parts)
    assert near < 0.1
    assert far > 0.3
    assert method.loss(photos)["channel"].item() == pytest.approx((0.2 - near) / 2, rel=1e-4)


def test_gamma_brings_the_quantisation_back() -> None:
    assert exchnet.Config().gamma == 0
    method = made(gamma=2.0)
    method.before_round(round_of(0, 40))
    assert "quantisation" in method.loss(batch())


@pytest.mark.parametrize(
    ("number", "rounds", "share", "begun"),
    [(34, 40, None, False), (35, 40, None, True), (39, 50, 0.8, False), (40, 50, 0.8, True), (0, 2, None, False),
     (1, 2, None, True), (1, 2, 1.0, False), (0, 5, 0.0, True)],
)  # fmt: skip
def test_the_exchange_begins_after_its_share_of_the_rounds(
    number: int, rounds: int, share: float | None, begun: bool
) -> None:
    method = made() if share is None else made(exchange_from=share)
    method.before_round(round_of(number, rounds, features(N)))
    assert ("alignment" in method.loss(batch())) == begun


def exchanging(plain: Tensor, **options: Any) -> tuple[Any, list[Tensor]]:
    """A method in its last round, and a list that takes what its head sees."""
    method = made(**options)
    method.before_round(Round(39, 40, torch.arange(N), LABELS, lambda: plain))
    seen: list[Tensor] = []
    method.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    return method, seen


def means_by_loops(plain: Tensor) -> Tensor:
    """(C, M, K)"""
    parts = plain.view(N, M + 1, K)
    return torch.stack(
        [
            torch.stack([parts[[row for row in range(N) if LABELS[row] == label], j].mean(dim=0) for j in range(M)])
            for label in range(C)
        ]
    )


def test_alignment_pulls_the_parts_themselves_to_the_means_of_their_class() -> None:
    plain = features(N, seed=9)
    method, _ = exchanging(plain, alignment=2.0)
    photos = batch()
    photos.features["anchor"].requires_grad_()
    terms = method.loss(photos)
    means, parts = means_by_loops(plain), photos.features["anchor"].detach().view(2, M + 1, K)
    squares = [(parts[i, j] - means[LABELS[row], j]).square().sum() for i, row in enumerate(ROWS) for j in range(M)]
    assert terms["alignment"].item() == pytest.approx(2 * math.sqrt(sum(map(float, squares))) / len(ROWS), rel=1e-5)
    terms["alignment"].backward()
    gradient = photos.features["anchor"].grad
    assert gradient is not None
    gradient = gradient.view(2, M + 1, K)
    assert (gradient[:, :M].abs().amax(dim=2) > 0).all()  # whatever was exchanged
    assert gradient[:, M].abs().max() == 0


def test_the_codes_teach_the_parts_that_were_kept() -> None:
    method, seen = exchanging(features(N, seed=9))
    photos = batch(torch.arange(N))
    given = photos.features["anchor"].requires_grad_()
    method.loss(photos)["pairs"].backward()
    kept = (seen[0] == given).view(N, M + 1, K).all(dim=2)
    assert given.grad is not None
    assert torch.equal(given.grad.view(N, M + 1, K).abs().amax(dim=2) > 0, kept)
    assert 0 < kept[:, :M].sum() < N * M
    assert kept[:, M].all()


def test_half_of_the_parts_are_exchanged_each_by_a_coin_of_its_own() -> None:
    plain = features(N, seed=9)
    method, seen = exchanging(plain)
    means, rows = means_by_loops(plain), torch.arange(N).repeat(50)
    photos = batch(rows)
    torch.manual_seed(4)
    method.loss(photos)
    given, taken = photos.features["anchor"].view(-1, M + 1, K), seen[0].view(-1, M + 1, K)
    assert torch.equal(given[:, M], taken[:, M])
    kept = (taken[:, :M] == given[:, :M]).all(dim=2)
    exchanged = torch.isclose(taken[:, :M], means[LABELS[rows]], atol=1e-6).all(dim=2)
    assert (kept ^ exchanged).all()
    # 1200 coins: a deviation of 0.0144; all 8 patterns of three coins 50 times in 400, a deviation of 6.6
    assert abs(exchanged.float().mean() - 0.5) < 0.06
    patterns = torch.bincount((exchanged * torch.tensor([1, 2, 4])).sum(dim=1), minlength=8)
    assert patterns.min() > 20
    torch.manual_seed(4)
    method.loss(photos)
    torch.manual_seed(5)
    method.loss(photos)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_a_normalising_head_sees_parts_of_length_1_and_the_other_terms_do_not() -> None:
    plain, scaled = made(), made(normalise=True)
    torch.testing.assert_close(scaled.head.bits.weight, plain.head.bits.weight)
    for method in (plain, scaled):
        method.before_round(round_of(0, 40))
    given = features(2)
    lengths = given.view(2, M + 1, K).norm(dim=2, keepdim=True)
    torch.testing.assert_close(scaled.head(given), plain.head((given.view(2, M + 1, K) / lengths).flatten(1)))
    torch.testing.assert_close(scaled.head(given), scaled.head(7 * given))
    of_plain, of_scaled = plain.loss(batch()), scaled.loss(batch())
    for term in ("spatial", "channel"):
        torch.testing.assert_close(of_scaled[term], of_plain[term])
    assert of_scaled["pairs"].item() != of_plain["pairs"].item()


def test_outputs_are_made_without_exchange() -> None:
    method, seen = exchanging(features(N))
    photos = torch.randn(2, 3, 64, 64)
    settle(partial(method.parts, method.backbone, photos), method.backbone, method.parts)
    method.eval()
    with torch.no_grad():
        method(photos)
        torch.testing.assert_close(seen[0], method.parts(method.backbone, photos).features.flatten(1))


def test_heat_is_the_channel_mean_of_the_maps_of_each_part() -> None:
    method, photos = made(), torch.randn(2, 3, 64, 64)
    settle(partial(method.parts, method.backbone, photos), method.backbone, method.parts)
    with torch.no_grad():
        embedded, maps = method.embed(photos), method.parts(method.backbone, photos).maps
        assert embedded["heat"].shape == (2, M, 4)
        for place in range(4):
            torch.testing.assert_close(embedded["heat"][:, :, place], maps[..., place // 2, place % 2].mean(dim=2))
        torch.testing.assert_close(embedded["anchor"], method.features(photos))
        torch.testing.assert_close(method.attentions(photos), method.parts(method.backbone, photos).attention)


def test_a_hidden_layer_is_allowed_and_a_standardised_head_is_not() -> None:
    assert made(HeadChoice(kind="mlp", hidden=4)).head.hidden.in_features == (M + 1) * K
    with pytest.raises(ConfigError, match="exchnet"):
        made(HeadChoice(standardise=True))
