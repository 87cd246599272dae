"""The parts network of ExchNet and A2-Net, also used by SEMICON: attention, then the last stage for each part.

    A   = attention(E)   none negative, (M, h, w)         E: maps of the third stage, (k, h, w)
    F_j = local(A_j * E),  f_j: F_j pooled                local: a copy of the last stage, shared by the M parts
    g   : maps of the backbone's own last stage, pooled      the whole photo

The attention sub-net is ExchNet's: residual bottlenecks with 1 x 1 convolutions between them, 1024 -> 256 -> 64
channels under ResNet-50, then one map for each part; random start. Other backbones keep these ratios down to 16
channels: a sixteenth of MobileNetV2's 96 would leave six. The papers' global branch is one more copy of the last stage.
As the backbone's own would then be unused, it is the branch here; it starts from the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor, nn

from milvus_fghash.errors import ConfigError
from milvus_fghash.methods.base import Backbone
from milvus_fghash.recipes.schema import HeadChoice

NARROWEST = 16


class Bottleneck(nn.Module):
    """ResNet's residual block, with a fourth of its channels inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 4
        self.inside = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(maps + self.inside(maps))


class AttentionStem(nn.Sequential):
    """The sub-net below its last convolution: (b, width, h, w) -> (b, n_channels, h, w)."""

    def __init__(self, width: int) -> None:
        """``width``: channels of the third stage."""
        middle, self.n_channels = max(width // 4, NARROWEST), max(width // 16, NARROWEST)
        super().__init__(
            Bottleneck(width),
            nn.Conv2d(width, middle, 1),
            nn.BatchNorm2d(middle),
            Bottleneck(middle),
            nn.Conv2d(middle, self.n_channels, 1),
            nn.BatchNorm2d(self.n_channels),
            Bottleneck(self.n_channels),
        )


class AttentionTop(nn.Sequential):
    """The sub-net's last convolution: (b, n_channels, h, w) -> (b, n_maps, h, w), none negative and without a bound."""

    def __init__(self, n_channels: int, n_maps: int) -> None:
        super().__init__(nn.Conv2d(n_channels, n_maps, 1), nn.BatchNorm2d(n_maps), nn.ReLU())


class Attention(nn.Sequential):
    """The whole sub-net: (b, width, h, w) -> (b, n_maps, h, w)."""

    def __init__(self, width: int, n_maps: int) -> None:
        """``width``: channels of the third stage."""
        stem = AttentionStem(width)
        super().__init__(stem, AttentionTop(stem.n_channels, n_maps))


class LocalBranch(nn.Module):
    """The last stage, applied to the third stage's maps under each attention map; one set of weights for all."""

    def __init__(self, last_stage: nn.Module) -> None:
        """``last_stage``: a copy of the backbone's, possibly changed by the method."""
        super().__init__()
        self.last_stage = last_stage

    def forward(self, maps: Tensor, attention: Tensor) -> Tensor:
        """(b, k, h, w) and (b, M, h, w) -> (b, M, n_features, h', w')."""
        attended = maps.unsqueeze(1) * attention.unsqueeze(2)
        return torch.unflatten(self.last_stage(attended.flatten(0, 1)), 0, (-1, attention.shape[1]))


@dataclass(frozen=True)
class Parts:
    """Result of the parts network for b photos."""

    attention: Tensor
    """A, (b, M, h, w)."""
    maps: Tensor
    """F, (b, M, n_features, h', w')."""
    local: Tensor
    """f_1 to f_M, (b, M, n_features)."""
    whole: Tensor
    """g, (b, n_features)."""

    @property
    def features(self) -> Tensor:
        """[f_1, ..., f_M, g], (b, M + 1, n_features)."""
        return torch.cat([self.local, self.whole.unsqueeze(1)], dim=1)


class PartsNetwork(nn.Module):
    """Attention and the local branch. The backbone is passed in by its owner, so that its weights are held once."""

    def __init__(self, backbone: Backbone, n_maps: int) -> None:
        super().__init__()
        self.attention = Attention(backbone.stage_widths[2], n_maps)
        self.local = LocalBranch(backbone.copy_last_stage())

    def forward(self, backbone: Backbone, images: Tensor) -> Parts:
        """(b, 3, h, w) normalised -> all parts."""
        *_, third, last = backbone.stage_maps(images)
        attention = self.attention(third)
        maps = self.local(third, attention)
        local = torch.unflatten(backbone.pool(maps.flatten(0, 1)), 0, (-1, attention.shape[1]))
        return Parts(attention, maps, local, backbone.pool(last))

    def look(self, backbone: Backbone, images: Tensor) -> Tensor:
        """The attention alone, (b, M, h, w)."""
        attention: Tensor = self.attention(backbone.stage_maps(images)[2])
        return attention


def reject_standardise(head: HeadChoice, method: str) -> None:
    """Reject a standardised head: the features of an untrained attention do not have their later scale.

    Raises:
        ConfigError: when the recipe has a standardised head.
    """
    if head.standardise:
        raise ConfigError(
            f"head.standardise = true does not work with {method}: mean and deviation of its parts would be "
            "taken before they are trained. Set head.standardise = false"
        )
