"""Attention and local branches against one pass for each photo and part, on every backbone."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from milvus_fghash.errors import ConfigError
from milvus_fghash.methods import a2net
from milvus_fghash.methods.base import Backbone, Sizes
from milvus_fghash.methods.parts import (
    Attention,
    AttentionStem,
    Bottleneck,
    LocalBranch,
    PartsNetwork,
    reject_standardise,
)
from milvus_fghash.recipes.schema import HeadChoice
from milvus_fghash.training.backbones import BACKBONES, build_backbone
from tests.helpers.small_method import settle


def random_photos(n: int = 3, size: int = 64) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    return build_backbone("tiny", "none")


@pytest.mark.parametrize(
    ("width", "widths"),
    [
        # planes 256, 64, 16 inside the bottlenecks, 1 x 1 convolutions 1024 -> 256 -> 64 between them, then the maps
        (1024, [256, 256, 1024, 256, 64, 64, 256, 64, 16, 16, 64, 5]),
        (96, [24, 24, 96, 24, 6, 6, 24, 16, 4, 4, 16, 5]),
    ],
)
def test_the_attention_net_has_the_papers_widths(width: int, widths: list[int]) -> None:
    net = Attention(width, 5)
    assert [layer.out_channels for layer in net.modules() if isinstance(layer, nn.Conv2d)] == widths
    assert AttentionStem(width).n_channels == widths[-2]


def test_a_bottleneck_adds_to_what_it_gets() -> None:
    torch.manual_seed(0)
    block, maps = Bottleneck(8), torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(block(maps), torch.clamp(maps + block.inside(maps), min=0))


def test_attention_keeps_the_size_and_is_nowhere_negative() -> None:
    torch.manual_seed(0)
    maps = Attention(32, 5)(torch.randn(2, 32, 7, 6))
    assert maps.shape == (2, 5, 7, 6)
    assert maps.min() == 0
    assert maps.max() > 1  # without a bound


def test_the_local_branch_is_one_pass_for_each_photo_and_part() -> None:
    torch.manual_seed(0)
    stage = nn.Sequential(nn.Conv2d(6, 4, 3, stride=2, padding=1), nn.ReLU())
    maps, attention = torch.randn(3, 6, 4, 4), torch.rand(3, 5, 4, 4)
    together = LocalBranch(stage)(maps, attention)
    assert together.shape == (3, 5, 4, 2, 2)
    for i in range(3):
        for j in range(5):
            seen = torch.stack([maps[i, k] * attention[i, j] for k in range(6)])
            torch.testing.assert_close(together[i, j], stage(seen[None])[0])


def test_parts_are_pooled_each_by_itself(backbone: Backbone) -> None:
    network, photos = PartsNetwork(backbone, 4), random_photos()
    settle(partial(network, backbone, random_photos()), backbone, network)
    with torch.no_grad():
        parts = network(backbone, photos)
        third = backbone.stage_maps(photos)[2]
        assert parts.maps.shape == (3, 4, 128, 2, 2)
        assert min(parts.attention.std(), parts.local.std(), parts.whole.std()) > 0.1
        torch.testing.assert_close(parts.whole, backbone(photos))
        torch.testing.assert_close(parts.attention, network.attention(third))
        torch.testing.assert_close(network.look(backbone, photos), parts.attention)
        for i in range(3):
            for j in range(4):
                maps = network.local.last_stage((third[i] * parts.attention[i, j])[None])
                torch.testing.assert_close(parts.maps[i, j], maps[0])
                torch.testing.assert_close(parts.local[i, j], maps[0].mean(dim=(1, 2)))
                torch.testing.assert_close(parts.features[i, j], parts.local[i, j])
            torch.testing.assert_close(parts.features[i, 4], parts.whole[i])


def test_the_local_branch_begins_with_weights_of_the_last_stage_that_are_its_own(backbone: Backbone) -> None:
    network = PartsNetwork(backbone, 2)
    for own, of_backbone in zip(network.local.parameters(), backbone.stage_outputs[3].parameters(), strict=True):
        assert torch.equal(own, of_backbone)
    assert not {id(weight) for weight in network.parameters()} & {id(weight) for weight in backbone.parameters()}


def test_gradients_of_the_parts_reach_attention_branch_and_the_first_three_stages(backbone: Backbone) -> None:
    network = PartsNetwork(backbone, 3)
    network(backbone, random_photos()).local.square().sum().backward()
    for part in (network.attention, network.local, *backbone.stage_outputs[:3]):
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in part.parameters())
        assert any(weight.grad.abs().max() > 0 for weight in part.parameters() if weight.grad is not None)
    assert all(weight.grad is None for weight in backbone.stage_outputs[3].parameters())


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_carries_parts(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, "none")
    method = a2net.Method(backbone, HeadChoice(), Sizes(12, 3, 8), a2net.Config(n_maps=2)).eval()
    with torch.no_grad():
        assert method.features(random_photos(2)).shape == (2, 3 * backbone.n_features)
        assert method(random_photos(2)).shape == (2, 12)
        assert method.attentions(random_photos(2)).shape == (2, 2, 4, 4)


def test_a_standardised_head_is_rejected() -> None:
    reject_standardise(HeadChoice(kind="mlp"), "exchnet")
    with pytest.raises(ConfigError, match=r"exchnet.*Set head.standardise = false"):
        reject_standardise(HeadChoice(standardise=True), "exchnet")
