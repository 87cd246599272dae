"""SEMICON: masks, channel transformers and heads against loops; what each bit sees."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from milvus_fghash.errors import ConfigError
from milvus_fghash.methods import semicon
from milvus_fghash.methods.base import Batch, Sizes
from milvus_fghash.recipes.schema import HeadChoice
from milvus_fghash.training.backbones import build_backbone
from tests.helpers.pair_loops import pairs_by_loops
from tests.helpers.small_method import BITS, LABELS, C, N, round_of, settle

K = 128  # channels of the tiny backbone's last stage
ROWS = torch.tensor([5, 0])


def made(head: HeadChoice | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    backbone = build_backbone("tiny", "none")
    return semicon.Method(backbone, head or HeadChoice(), Sizes(BITS, C, N), semicon.Config(**options)).eval()


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def softmax(values: Tensor) -> list[float]:
    exponentials = [math.exp(float(value)) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def suppression_by_loops(attention: Tensor, exponent: float) -> list[float]:
    """One photo's map, place by place."""
    shares = softmax(attention)
    mean = sum(shares) / len(shares)
    deviation = math.sqrt(sum((share - mean) ** 2 for share in shares) / len(shares))
    return [2 - min(max((share - mean) / deviation**exponent + 1, 0), 2) for share in shares]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.15, 0.3, 1.0]))
def test_suppression_is_the_loop_over_each_photo(seed: int, exponent: float) -> None:
    maps = 3 * random(2, 1, 2, 3, seed=seed)
    weights = semicon.suppression(maps, exponent)
    assert weights.shape == (2, 1, 2, 3)
    for photo, its_weights in zip(maps, weights, strict=True):
        expected = suppression_by_loops(photo.flatten(), exponent)
        assert its_weights.flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_suppression_worked_by_hand() -> None:
    maps = torch.tensor([math.log(3), 0.0]).view(1, 1, 1, 2)  # shares 3/4, 1/4: mean 1/2, deviation 1/4
    assert semicon.suppression(maps, 0.0).flatten().tolist() == pytest.approx([0.75, 1.25])
    assert semicon.suppression(maps, 0.5).flatten().tolist() == pytest.approx([0.5, 1.5])
    assert semicon.suppression(maps, 1.0).flatten().tolist() == pytest.approx([0.0, 2.0])
    maps = torch.tensor([9.0, 0.0, 0.0, 0.0, 0.0]).view(1, 1, 1, 5)  # z of the first is 2, beyond the clamp
    assert semicon.suppression(maps, 1.0).flatten().tolist() == pytest.approx([0.0, 1.5, 1.5, 1.5, 1.5], abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 4, 4)])
def test_a_constant_map_suppresses_nothing(shape: tuple[int, ...]) -> None:
    maps = torch.full(shape, 7.0, requires_grad=True)
    weights = semicon.suppression(maps, 0.15)
    torch.testing.assert_close(weights, torch.ones(shape))
    assert not weights.requires_grad


def test_each_map_sees_what_those_before_it_left() -> None:
    torch.manual_seed(0)
    attention = semicon.CascadedAttention(16, 0.3).eval()
    for top in attention.tops:
        nn.init.normal_(top[0].weight, std=3)  # type: ignore[index]
    maps = random(2, 16, 4, 4)
    found = attention(maps)
    assert found.shape == (2, 3, 4, 4)
    x = attention.stem(maps)
    for k, top in enumerate(attention.tops):
        torch.testing.assert_close(found[:, k : k + 1], top(x))
        x = x * semicon.suppression(top(x), 0.3)
    assert found.amin() == 0  # a ReLU ends each
    assert len({tuple(found[0, k].flatten().tolist()) for k in range(3)}) == 3


def test_channels_attend_within_their_group() -> None:
    torch.manual_seed(0)
    attention, maps = semicon.GroupAttention(6, 2), random(2, 6, 2, 2)
    nn.init.normal_(attention.project.weight)
    weight, bias = attention.project.weight.detach()[:, :, 0, 0], attention.project.bias
    assert bias is not None
    mixed = attention(maps).detach()
    for photo, its_mixed in zip(maps.flatten(2), mixed.flatten(2), strict=True):
        for group in range(2):
            own, rows = photo[3 * group : 3 * group + 3], slice(9 * group, 9 * group + 9)
            queries, keys, values = (weight[rows] @ own + bias.detach()[rows, None]).chunk(3)
            for channel in range(3):
                scores = [float(queries[channel] @ key) / math.sqrt(3) for key in keys]
                roots = [math.copysign(math.sqrt(abs(score) + 1e-5), score) for score in scores]
                shares = torch.tensor(softmax(torch.tensor(roots)))
                torch.testing.assert_close(its_mixed[3 * group + channel], shares @ values)


def test_channel_shuffle_worked_by_hand() -> None:
    maps = torch.arange(6.0).view(1, 6, 1, 1)
    assert semicon.channel_shuffle(maps, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert torch.equal(semicon.channel_shuffle(semicon.channel_shuffle(maps, 2), 3), maps)


def test_a_channel_transformer_attends_within_groups_then_across() -> None:
    torch.manual_seed(0)
    transformer, maps = semicon.ChannelTransformer(32).eval(), random(2, 32, 2, 2)
    nn.init.normal_(transformer.norm.weight)
    assert (transformer.groups, transformer.size) == (16, 2)
    shuffled_order = [group * 2 + place for place in range(2) for group in range(16)]
    first = maps + transformer.within(maps)
    scale = transformer.norm.weight / math.sqrt(1 + transformer.norm.eps)  # batch norm as it starts, in shuffled order
    shuffled = first[:, shuffled_order] * scale.view(-1, 1, 1)
    second = shuffled + transformer.across(torch.relu(shuffled))
    expected = torch.empty_like(second)
    expected[:, shuffled_order] = second
    torch.testing.assert_close(transformer(maps), expected)


@pytest.mark.parametrize(("width", "groups"), [(2048, 32), (1280, 20), (960, 16), (320, 16), (24, 8)])
def test_groups_divide_the_channels(width: int, groups: int) -> None:
    assert semicon.ChannelTransformer(width).groups == groups


@pytest.mark.parametrize(("name", "blocks", "widths"), [("tiny", 2, [128, 128]), ("mobilenet_v2", 5, [320, 1280])])
def test_transformers_stand_behind_the_last_two_blocks(name: str, blocks: int, widths: list[int]) -> None:
    backbone = build_backbone(name, "none")
    stage = backbone.copy_last_stage()
    layers = semicon.with_transformers(stage, backbone.stage_widths[2])
    places = [place for place, layer in enumerate(layers) if isinstance(layer, semicon.ChannelTransformer)]
    assert places == [blocks - 1, blocks + 1]
    assert [layers[place].norm.num_features for place in places] == widths  # type: ignore[union-attr]
    assert all(layer.training for layer in layers.modules())
    assert all(weight.requires_grad for weight in layers.parameters())
    for layer in layers.eval():
        if isinstance(layer, semicon.ChannelTransformer):
            layer.forward = lambda maps: maps  # type: ignore[method-assign]
    maps = random(1, backbone.stage_widths[2], 4, 4)
    torch.testing.assert_close(layers(maps), stage.eval()(maps))


@pytest.mark.parametrize(
    ("n_bits", "lengths"), [(8, [5, 1, 1, 1]), (12, [6, 2, 2, 2]), (32, [17, 5, 5, 5]), (48, [24, 8, 8, 8])]
)
def test_half_of_the_bits_see_the_whole_and_a_third_of_the_rest_each_part(n_bits: int, lengths: list[int]) -> None:
    head = semicon.PartHeads(HeadChoice(), 3, n_bits)
    features = random(1, 12).requires_grad_()
    outputs = head(features)
    assert outputs.shape == (1, n_bits)
    seen = [
        {int(column) // 3 for column in torch.autograd.grad(bit, features, retain_graph=True)[0][0].nonzero()}
        for bit in outputs[0]
    ]
    assert seen == [{part} for part, length in enumerate(lengths) for _ in range(length)]


def test_a_code_is_made_of_the_whole_and_each_part() -> None:
    method, images = made(), random(2, 3, 64, 64)
    third = method.backbone.stage_maps(images)[2]
    attention = method.attentions(images)
    assert attention.shape == (2, 3, 4, 4)
    torch.testing.assert_close(attention, method.attention(third))
    local = method.local.last_stage
    expected = [method.whole(third).mean(dim=(2, 3))]
    expected += [local(attention[:, k : k + 1] * third).mean(dim=(2, 3)) for k in range(3)]
    features = method.features(images)
    torch.testing.assert_close(features, torch.cat(expected, dim=1))
    torch.testing.assert_close(method(images), method.head(features))


def test_whole_and_local_branch_have_weights_of_their_own() -> None:
    method, images = made(), random(1, 3, 64, 64)
    before = method.features(images)
    with torch.no_grad():
        for weight in [*method.backbone.stages[3].parameters(), *method.whole.parameters()]:
            weight.zero_()
    after = method.features(images)
    assert not torch.equal(after[:, :K], before[:, :K])
    torch.testing.assert_close(after[:, K:], before[:, K:])


def test_the_loss_is_that_of_the_baseline() -> None:
    method = made(gamma=30.0)
    method.before_round(round_of())
    photos = Batch(ROWS, LABELS[ROWS], {"anchor": random(2, 4 * K)})
    terms = method.loss(photos)
    u = torch.tanh(method.head(photos.features["anchor"])).detach()
    scale = 12 / BITS / (2 * N)
    assert set(terms) == {"pairs", "quantisation"}
    assert terms["pairs"].item() == pytest.approx(scale * pairs_by_loops(method, u, ROWS), rel=1e-5)
    apart = (u - method.signs[ROWS]).square().sum().item()
    assert terms["quantisation"].item() == pytest.approx(scale * 30 * apart, rel=1e-5)


def test_every_branch_learns() -> None:
    method = made().train()
    method.before_round(round_of())
    features = method.embed(random(2, 3, 64, 64))
    sum(method.loss(Batch(ROWS, LABELS[ROWS], features)).values()).backward()
    for part in (*method.attention.tops, method.attention.stem, method.whole, method.local, method.backbone.stages[0]):
        assert max(float(weight.grad.abs().max()) for weight in part.parameters()) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_dead_map_suppresses_nothing_in_half_precision_either(dtype: torch.dtype) -> None:
    assert semicon.suppression(torch.zeros(2, 1, 3, 3, dtype=dtype), 0.15).flatten().tolist() == [1.0] * 18


def test_a_standardised_head_is_rejected() -> None:
    with pytest.raises(ConfigError, match="semicon"):
        made(HeadChoice(standardise=True))


def test_a_code_does_not_depend_on_its_neighbours() -> None:
    method, images = made(), random(3, 3, 96, 96)
    images[1] += 3
    images[2] *= 0.2
    settle(partial(method, images), method)
    with torch.no_grad():
        together, maps = method(images), method.attentions(images)
        alone = torch.cat([method(photo[None]) for photo in images])
        maps_alone = torch.cat([method.attentions(photo[None]) for photo in images])
    assert float(maps.flatten(2).std(dim=2).min()) > 0.1  # no map is dead, so all are suppressed by the ones before
    torch.testing.assert_close(maps_alone, maps, rtol=0, atol=1e-3)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-3 * float(together.std()))
