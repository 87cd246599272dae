"""The two losses of DaSH against loops over pairs, whose weights each turn trains, and what is encoded."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from milvus_fghash.methods import dash
from milvus_fghash.methods.base import Batch, Round, Sizes
from milvus_fghash.methods.dash import Saliency, fixed
from milvus_fghash.recipes.schema import HeadChoice
from milvus_fghash.training.backbones import build_backbone
from tests.helpers import small_method
from tests.helpers.small_method import BITS, LABELS, WIDTH

LABELS_OF_FOUR = torch.tensor([0, 1, 0, 1])


def on_a_backbone(number: int = 0, **options: Any) -> dash.Method:
    torch.manual_seed(0)
    method = dash.Method(build_backbone("tiny", "none"), HeadChoice(), Sizes(BITS, 2, 4), dash.Config(**options))
    method.before_round(Round(number, 9, torch.arange(4), LABELS_OF_FOUR, lambda: torch.empty(0)))
    return method


def photos() -> Tensor:
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def step_of(name: str, seed: int = 1) -> Batch:
    """Photos 5 and 0 (of class 2 and 0) with random features."""
    random = torch.Generator().manual_seed(seed)
    photo, salient = (torch.randn(2, WIDTH, generator=random) for _ in range(2))
    rows = torch.tensor([5, 0])
    return Batch(rows, LABELS[rows], {"anchor": salient, "photo": photo, name: salient})


def contrast(u: Tensor, other: Tensor, similar: bool, margin: float = 2 * BITS) -> float:
    apart = (u - other).square().sum().item()
    return apart / 2 if similar else max(margin - apart, 0.0) / 2


def remembering(encode: str, **options: Any) -> tuple[dash.Method, Tensor]:
    """A method that has seen photo 3 (of class 0), and its outputs."""
    method = small_method.made(dash, encode=encode, **options)
    seen = torch.randn(1, BITS, generator=torch.Generator().manual_seed(5))
    method.bank.keep(torch.tensor([3]), seen)
    return method, seen[0]


def pairs_of(encoded: Tensor, seen: Tensor) -> list[tuple[int, Tensor, bool]]:
    """Place in the batch, remembered outputs, similar: photo 5 meets 3 and 0, photo 0 meets 3 and 5."""
    return [(0, seen, False), (0, encoded[1], False), (1, seen, True), (1, encoded[0], False)]


@pytest.mark.parametrize("encode", ["salient", "photo"])
def test_the_hashing_network_learns_from_both(encode: str) -> None:
    method, seen = remembering(encode)
    step = step_of("salient")
    terms = method.loss(step)
    assert list(terms) == ["pairs", "quantisation"]
    u = {name: method.head(step.features[name]).detach() for name in ("photo", "salient")}
    pairs = pairs_of(u[encode], seen)
    total = sum(contrast(u[name][i], other, similar) for name in u for i, other, similar in pairs)
    assert terms["pairs"].item() == pytest.approx(total / 2 / 4, rel=1e-5)
    off = torch.cat(list(u.values())).abs().sub(1).abs().mean().item()
    assert terms["quantisation"].item() == pytest.approx(0.01 * off, rel=1e-5)


@pytest.mark.parametrize("encode", ["salient", "photo"])
def test_the_attention_network_learns_to_be_better_than_the_photo(encode: str) -> None:
    method, seen = remembering(encode, gap=0.05)
    step = step_of("guided")
    terms = method.loss(step)
    assert list(terms) == ["saliency"]
    photo, guided = (method.head(step.features[name]).detach() for name in ("photo", "guided"))
    hinges = [
        max(0.0, contrast(guided[i], other, similar) - contrast(photo[i], other, similar) + 0.05 * BITS)
        for i, other, similar in pairs_of(guided if encode == "salient" else photo, seen)
    ]
    assert min(hinges) == 0 < max(hinges)
    assert terms["saliency"].item() == pytest.approx(sum(hinges) / 4, rel=1e-5)


def test_the_photo_is_no_way_to_a_lower_saliency_loss() -> None:
    method, _ = remembering("salient")
    step = step_of("guided")
    step.features["photo"].requires_grad_()
    step.features["guided"].requires_grad_()
    method.loss(step)["saliency"].backward()  # type: ignore[no-untyped-call]
    assert step.features["photo"].grad is not None
    assert step.features["photo"].grad.abs().max() == 0
    assert step.features["guided"].grad is not None
    assert step.features["guided"].grad.abs().max() > 0
    assert all(weight.grad is None for weight in method.head.parameters())


def test_each_turn_trains_one_network() -> None:
    method = on_a_backbone(attention_every=2)
    attention = set(method.saliency.parameters())
    for turn in ("salient", "guided"):
        method.zero_grad(set_to_none=True)
        features = method.embed(photos())
        assert turn in features
        terms = method.loss(Batch(torch.arange(4), LABELS_OF_FOUR, features))
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        trained = {weight for weight in method.parameters() if weight.grad is not None and weight.grad.any()}
        assert trained == (attention if turn == "guided" else set(method.parameters()) - attention)


def turns(method: dash.Method, steps: int) -> list[bool]:
    return ["guided" in method.embed(photos()) for _ in range(steps)]


def test_turns_follow_each_other() -> None:
    assert turns(on_a_backbone(attention_every=2), 4) == [False, True, False, True]
    assert turns(on_a_backbone(attention_every=3), 6) == [False, False, True] * 2
    assert not any(turns(on_a_backbone(attention_every=2).eval(), 4))  # cached features must not depend on the turn


def test_rounds_of_one_step_take_turns_too() -> None:
    assert [turns(on_a_backbone(number, attention_every=2), 1) for number in range(4)] == [
        [False],
        [True],
        [False],
        [True],
    ]


def test_both_turns_see_the_same() -> None:
    method = on_a_backbone(attention_every=2)
    first, second = method.embed(photos()), method.embed(photos())
    torch.testing.assert_close(first["photo"], second["photo"])
    torch.testing.assert_close(first["salient"], second["guided"])


def test_a_fixed_network_lets_the_gradient_through() -> None:
    network, inputs = nn.Sequential(nn.Linear(3, 2), nn.Tanh()), torch.randn(4, 3, requires_grad=True)
    outputs = fixed(network, inputs)
    torch.testing.assert_close(outputs, network(inputs))
    outputs.sum().backward()  # type: ignore[no-untyped-call]
    assert inputs.grad is not None
    assert inputs.grad.abs().min() > 0
    assert all(weight.grad is None and weight.requires_grad for weight in network.parameters())


@pytest.mark.parametrize("encode", ["salient", "photo"])
def test_what_is_encoded_is_what_is_remembered(encode: str) -> None:
    method = on_a_backbone(encode=encode).eval()
    with torch.no_grad():
        features, images = method.embed(photos()), photos()
        seen = images * method.attentions(images) if encode == "salient" else images
        torch.testing.assert_close(features["anchor"], method.features(images))
        torch.testing.assert_close(features["anchor"], method.backbone(seen))
        torch.testing.assert_close(features["anchor"], features[encode])
        method.loss(Batch(torch.arange(4), LABELS_OF_FOUR, features))
        torch.testing.assert_close(method.bank.outputs, method(images))


@pytest.mark.parametrize("size", [(64, 64), (33, 50)])
def test_saliency_is_a_map_of_the_photos_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    maps = Saliency(4).eval()(torch.randn(2, 3, *size) * 50)
    assert maps.shape == (2, 1, *size)
    assert 0 <= maps.min() < maps.max() <= 1


def test_turns_have_room_for_both() -> None:
    with pytest.raises(ValueError, match="greater than 1"):
        dash.Config(attention_every=1)
