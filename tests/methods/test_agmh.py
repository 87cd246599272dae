"""AGMH: attention and dispersion against loops; what is encoded, and what only training sees."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from milvus_fghash.errors import ConfigError
from milvus_fghash.methods import agmh
from milvus_fghash.methods.base import Batch, Sizes
from milvus_fghash.recipes.schema import HeadChoice
from milvus_fghash.training.backbones import build_backbone
from tests.helpers.pair_loops import pairs_by_loops
from tests.helpers.small_method import BITS, LABELS, C, N, round_of

M, WIDTH = 3, 32  # a quarter of the tiny backbone's 128 channels
ROWS = torch.tensor([5, 0])


def made(head: HeadChoice | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    backbone = build_backbone("tiny", "none")
    config = agmh.Config(descriptors=M, **options)
    return agmh.Method(backbone, head or HeadChoice(), Sizes(BITS, C, N), config).eval()


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def softmax(values: Tensor) -> list[float]:
    exponentials = [math.exp(float(value)) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def dispersion_by_loops(looks: Tensor) -> float:
    """Every pair of maps of every photo, place by place."""
    total, pairs = 0.0, 0
    for photo in looks:
        shares = [softmax(place) for place in photo]
        for i in range(len(shares)):
            for j in range(i + 1, len(shares)):
                total += sum(a * b for a, b in zip(shares[i], shares[j], strict=True))
                pairs += 1
    return total / pairs


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(2, 5), st.integers(1, 6))
def test_dispersion_is_the_loop(seed: int, photos: int, maps: int, places: int) -> None:
    looks = 3 * random(photos, maps, places, seed=seed)
    assert agmh.dispersion(looks).item() == pytest.approx(dispersion_by_loops(looks), rel=1e-4)


def test_dispersion_worked_by_hand() -> None:
    same, apart = torch.tensor([[99.0, 0.0], [99.0, 0.0]]), torch.tensor([[99.0, 0.0], [0.0, 99.0]])
    assert agmh.dispersion(torch.stack([same, same])).item() == pytest.approx(1)
    assert agmh.dispersion(torch.stack([same, apart])).item() == pytest.approx(1 / 2)
    assert agmh.dispersion(torch.zeros(1, 3, 4)).item() == pytest.approx(1 / 4)


def weights_by_loops(attention: Any, maps: Tensor) -> Tensor:
    """One photo (width, places) -> (k, places), from the weights of the layers."""

    def matrix(layer: Any) -> Tensor:
        weight: Tensor = layer.weight.detach().flatten(1)
        return weight

    entered = matrix(attention.enter) @ maps + attention.enter.bias.detach()[:, None]
    queries = [matrix(query) @ entered for query in attention.queries]
    joined = queries[0]
    for step, query in enumerate(queries[1:]):
        of_before, of_query = matrix(attention.mixes[step]).chunk(2, dim=1)
        joined = of_before @ joined + of_query @ query
    over_places = torch.tensor([softmax(unit) for unit in joined])
    for place in range(maps.shape[1]):
        over_places[:, place] /= over_places[:, place].sum()
    return over_places


@pytest.mark.parametrize("steps", [1, 4])
def test_attention_is_found_in_steps(steps: int) -> None:
    torch.manual_seed(0)
    attention = agmh.StepwiseAttention(8, steps).eval()
    for layer in (attention.enter, *attention.queries, *attention.mixes):
        nn.init.normal_(layer.weight, std=0.5)
    maps = random(2, 8, 2, 3)
    weights = attention.weights(maps)
    assert weights.shape == (2, 2, 6)
    for photo, its_weights in zip(maps, weights, strict=True):
        expected = weights_by_loops(attention, photo.flatten(1))
        torch.testing.assert_close(its_weights.detach(), expected)
    attended = (attention.units.weight[:, :, 0] @ weights).view(2, 8, 2, 3)
    torch.testing.assert_close(attention(maps), torch.relu(maps + attention.leave(attended)))


def test_convolutions_start_as_the_authors_and_the_attention_is_alive() -> None:
    torch.manual_seed(0)
    attention: Any = agmh.StepwiseAttention(256, 4)
    for layer in attention.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / layer.out_channels), rel=0.05)
    maps = torch.relu(random(4, 256, 7, 7))
    attended = attention.units(attention.weights(maps)).unflatten(2, (7, 7))
    spread = attention.leave[0](attended).var(dim=(0, 2, 3)).mean()  # what its batch norm divides by
    assert spread.item() > 100 * attention.leave[1].eps
    descriptors = made().descriptors[0]
    assert descriptors.weight.std().item() == pytest.approx(math.sqrt(2 / WIDTH), rel=0.05)


def test_attention_needs_places_as_well_as_units() -> None:
    attention = agmh.StepwiseAttention(8, 2)
    weights = attention.weights(random(1, 8, 3, 3))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(1, 9))
    assert weights.std() > 0


def test_the_code_is_that_of_each_descriptor_on_the_unstrided_stage() -> None:
    method, images = made(), random(2, 3, 64, 64)
    third = method.backbone.stage_maps(images)[2]
    maps = method.last_stage(third)
    assert maps.shape == (2, 128, 4, 4)
    assert third.shape[2:] == (4, 4)
    convolution, norm, _ = method.descriptors
    pooled = []
    for i in range(M):
        own = slice(i * WIDTH, (i + 1) * WIDTH)
        described = torch.einsum("kc,bchw->bkhw", convolution.weight[own, :, 0, 0], maps)
        described += convolution.bias[own].view(-1, 1, 1)
        described = described / math.sqrt(1 + norm.eps)  # batch norm as it starts
        pooled.append(torch.relu(described).mean(dim=(2, 3)))
    torch.testing.assert_close(method.features(images), torch.cat(pooled, dim=1))
    torch.testing.assert_close(method(images), method.head(torch.cat(pooled, dim=1)))


def test_the_last_stage_has_weights_of_its_own() -> None:
    method, images = made(), random(1, 3, 64, 64)
    before = method(images)
    with torch.no_grad():
        for weight in method.backbone.stages[3].parameters():
            weight.zero_()
    torch.testing.assert_close(method(images), before)


def test_each_descriptor_looks_through_its_own_attention() -> None:
    method, images = made(), random(2, 3, 64, 64)
    maps = method.described(images)
    looks = method.attentions(images)
    assert looks.shape == (2, M, 4, 4)
    for i in range(M):
        own = maps[:, i * WIDTH : (i + 1) * WIDTH]
        torch.testing.assert_close(looks[:, i], method.attention[i](own).max(dim=1).values)
    features = method.embed(images)
    torch.testing.assert_close(features["looks"], looks.flatten(2))
    torch.testing.assert_close(features["anchor"], method.features(images))


def test_a_code_needs_no_attention() -> None:
    method, images = made(), random(1, 3, 64, 64)
    before = method(images)
    with torch.no_grad():
        for weight in method.attention.parameters():
            weight.normal_()
    torch.testing.assert_close(method(images), before)


@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_the_loss_is_the_adsh_terms_and_the_dispersion(weight: float) -> None:
    method = made(dispersion=weight, gamma=30.0)
    method.before_round(round_of())
    looks = random(2, M, 16, seed=2)
    photos = Batch(ROWS, LABELS[ROWS], {"anchor": random(2, M * WIDTH)} | ({"looks": looks} if weight else {}))
    terms = method.loss(photos)
    u = torch.tanh(method.head(photos.features["anchor"])).detach()
    scale = 12 / BITS / (2 * N)
    assert terms["pairs"].item() == pytest.approx(scale * pairs_by_loops(method, u, ROWS), rel=1e-5)
    apart = (u - method.signs[ROWS]).square().sum().item()
    assert terms["quantisation"].item() == pytest.approx(scale * 30 * apart, rel=1e-5)
    assert ("dispersion" in terms) == (weight > 0)
    assert set(method.embed(random(1, 3, 64, 64))) == {"anchor"} | ({"looks"} if weight else set())
    if weight:
        assert terms["dispersion"].item() == pytest.approx(0.5 * dispersion_by_loops(looks), rel=1e-4)


def test_the_dispersion_reaches_attention_descriptors_and_backbone() -> None:
    method = made().train()
    agmh.dispersion(method.embed(random(4, 3, 64, 64))["looks"]).backward()  # type: ignore[no-untyped-call]
    for part in (method.attention[1].mixes[0], method.descriptors[0], method.last_stage, method.backbone.stages[0]):
        assert max(float(weight.grad.abs().max()) for weight in part.parameters()) > 0
    assert method.head.bits.weight.grad is None


def test_a_standardised_head_is_rejected() -> None:
    with pytest.raises(ConfigError, match="agmh"):
        made(HeadChoice(standardise=True))


def test_a_code_does_not_depend_on_its_neighbours() -> None:
    method, images = made(), random(3, 3, 64, 64)
    images[1] += 3
    with torch.no_grad():
        together, looks = method(images), method.attentions(images)
        torch.testing.assert_close(torch.cat([method(photo[None]) for photo in images]), together)
        torch.testing.assert_close(torch.cat([method.attentions(photo[None]) for photo in images]), looks)
