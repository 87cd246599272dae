"""SEMICON: suppression-enhancing masks and interactive channel transformation (Shen et al., ECCV 2022).

E are the third stage's maps, x what the stem of ExchNet's attention (`parts.py`) makes of them. Three maps in turn,

    a_k = ReLU(batch norm(1 x 1 convolution of x)),  then  x <- x (1 - clamp(z, -1, 1))
    with z = (p - mean p) / (std p)^e and p the softmax of a_k over places,

so that the places one map attends to are suppressed for the next. The a_k E go through one copy of the last stage, E
through another; both have channel transformers. Half of the bits see E alone, a third of the rest each of the a_k E.
The loss is that of `baseline.py`.

Follows the authors' code, in e = 0.15 too (0.3 in the paper). Differs from it: mean and deviation are each photo's, not
the batch's, since a code must not depend on a photo's neighbours; queries, keys and values of a group of channels come
from that group; the channel order is the same on both sides of every sum; the heads have a bias; the three a_k E of a
batch pass through their branch together, so that its batch norms take one mean and deviation over all of them.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.methods import baseline
from milvus_fghash.methods.base import Backbone, Sizes
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.methods.parts import AttentionStem, AttentionTop, LocalBranch, reject_standardise
from milvus_fghash.recipes.schema import HeadChoice

MAPS = 3


class Config(baseline.Config):
    exponent: Annotated[float, Field(ge=0, le=1)] = 0.15
    """e: of the deviation that a place's share is measured by."""


@torch.no_grad()
def suppression(attention: Tensor, exponent: float) -> Tensor:
    """Weights in [0, 2] that are smaller where the map is larger, (b, 1, h, w); 1 everywhere for a constant map."""
    shares = attention.flatten(1).float().softmax(dim=1)  # in half precision the least deviation below is zero
    apart = shares - shares.mean(dim=1, keepdim=True)
    deviation = shares.std(dim=1, keepdim=True, correction=0).clamp(min=1e-12)
    return (1 - (apart / deviation**exponent).clamp(-1, 1)).view_as(attention)


class CascadedAttention(nn.Module):
    """(b, k, h, w) -> (b, 3, h, w), none negative."""

    def __init__(self, width: int, exponent: float) -> None:
        super().__init__()
        self.exponent = exponent
        self.stem = AttentionStem(width)
        self.tops = nn.ModuleList(AttentionTop(self.stem.n_channels, 1) for _ in range(MAPS))

    def forward(self, maps: Tensor) -> Tensor:
        x = self.stem(maps)
        found: list[Tensor] = []
        for top in self.tops:
            if found:
                x = x * suppression(found[-1], self.exponent)
            found.append(top(x))
        return torch.cat(found, dim=1)


class GroupAttention(nn.Module):
    """Self-attention among the channels of each group, whose vectors are their maps; shape kept."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.project = nn.Conv2d(width, 3 * width, 1, groups=groups)

    def forward(self, maps: Tensor) -> Tensor:
        # A grouped convolution gives the channels of the first group first.
        projected: Tensor = torch.unflatten(self.project(maps), 1, (self.groups, 3, -1)).flatten(4)
        queries, keys, values = projected.unbind(dim=2)
        scores = queries @ keys.transpose(2, 3) * queries.shape[2] ** -0.5
        roots = scores.sign() * (scores.abs() + 1e-5).sqrt()
        mixed: Tensor = roots.softmax(dim=3) @ values
        return mixed.reshape(maps.shape)


def channel_shuffle(maps: Tensor, groups: int) -> Tensor:
    """Channels in the order: the first of each group, the second of each, ...; (b, k, h, w).

    With the groups' size for their number, it undoes itself.
    """
    return torch.unflatten(maps, 1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class ChannelTransformer(nn.Module):
    """Attention within groups of channels, then across: among the first of each group, among the second, ..."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.groups = math.gcd(width, max(width // 64, 16))
        self.size = width // self.groups
        self.within = GroupAttention(width, self.groups)
        self.norm = nn.BatchNorm2d(width)
        self.across = GroupAttention(width, self.size)

    def forward(self, maps: Tensor) -> Tensor:
        shuffled = self.norm(channel_shuffle(maps + self.within(maps), self.groups))
        return channel_shuffle(shuffled + self.across(F.relu(shuffled)), self.size)


@torch.no_grad()
def with_transformers(stage: nn.Module, width: int) -> nn.Sequential:
    """The stage with a channel transformer after each of its last two blocks; ``width``: channels that it takes."""
    blocks = list(stage.children())
    while len(blocks) == 1:
        blocks = list(blocks[0].children())
    layers: list[nn.Module] = []
    maps = torch.zeros(1, width, 4, 4)
    for block in blocks:
        layers.append(block)
        maps = block.eval()(maps)  # a block's width is known only from a pass
        if block in blocks[-2:]:
            layers.append(ChannelTransformer(maps.shape[1]))
    return nn.Sequential(*layers).train()


class PartHeads(nn.ModuleList):
    """A head for the whole photo, then one for each part: (b, 4 n_features) -> (b, n_bits)."""

    def __init__(self, choice: HeadChoice, n_features: int, n_bits: int) -> None:
        each = n_bits // (2 * MAPS)
        lengths = [n_bits - MAPS * each] + [each] * MAPS
        super().__init__(HashHead(choice, n_features, length) for length in lengths)

    def forward(self, features: Tensor) -> Tensor:
        parts = features.chunk(len(self), dim=1)
        return torch.cat([head(part) for head, part in zip(self, parts, strict=True)], dim=1)


class Method(baseline.Method):
    config: Config
    head: nn.Module  # type: ignore[assignment]  # not one `HashHead` but four

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        reject_standardise(head, "semicon")
        super().__init__(backbone, head, sizes, config)
        width = backbone.stage_widths[2]
        self.attention = CascadedAttention(width, config.exponent)
        self.whole = with_transformers(backbone.copy_last_stage(), width)
        self.local = LocalBranch(with_transformers(backbone.copy_last_stage(), width))
        self.head = PartHeads(head, backbone.n_features, sizes.n_bits)
        self.features_key = f"parts-{config.exponent}"

    def features(self, images: Tensor) -> Tensor:
        third = self.backbone.stage_maps(images, 3)[2]
        local = self.local(third, self.attention(third))
        features = torch.cat([self.whole(third).unsqueeze(1), local], dim=1)
        return torch.unflatten(self.backbone.pool(features.flatten(0, 1)), 0, (-1, 1 + MAPS)).flatten(1)

    def attentions(self, images: Tensor) -> Tensor:
        found: Tensor = self.attention(self.backbone.stage_maps(images, 3)[2])
        return found
