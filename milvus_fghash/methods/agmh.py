"""AGMH: attributes grouping and mining hashing (Lu et al., ACM MM 2023).

The last stage keeps the size of its input (stride 1). M descriptors, each a 1 x 1 convolution to a quarter of its
channels, batch norm and ReLU, are pooled; all of them together are the input of the head. Encoding uses only these.

Training makes the descriptors look at different places. Each has a stepwise interactive external attention; p_i is the
softmax over places of its largest channel there, and a term is added to the two ADSH terms of `baseline.py`,

    dispersion = mean over photos and pairs i < j of  sum over places of p_i p_j .

Follows the authors' code, in constants and in how convolutions start: from normal numbers of variance 2 / outputs.
(With torch's own start the attended maps have a variance below the epsilon of the batch norm after them.) Differs from
it: the head has a bias. Other backbones keep its ratios: 512 channels and 128 units to ResNet-50's 2048. The stage is a
copy of the backbone's own, which is unused here.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.methods import baseline
from milvus_fghash.methods.base import Backbone, Batch, Sizes
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.methods.parts import reject_standardise
from milvus_fghash.recipes.schema import HeadChoice


class Config(baseline.Config):
    descriptors: Annotated[int, Field(ge=2)] = 6
    """M: how many descriptors."""
    dispersion: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the pull of the descriptors to different places; 0 leaves their attention out."""
    steps: Annotated[int, Field(gt=0)] = 4
    """How many queries the attention combines, one after the other."""


@torch.no_grad()
def start_convolutions(module: nn.Module, outputs: int | None = None) -> None:
    """Normal numbers of variance 2 / ``outputs`` for the weights of each convolution; None: its own outputs."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            layer.weight.normal_(0, math.sqrt(2 / (outputs or layer.out_channels)))


class StepwiseAttention(nn.Module):
    """External attention (Guo et al., TPAMI 2022) whose weights of a place are found in steps; shape kept.

    Of one convolution of the maps, each step takes a query, (b, k, h w), and mixes it into what the steps before gave.
    The result is normalised over places, then at each place over the k units; a unit adds its own vector.
    """

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        units = width // 4
        self.enter = nn.Conv2d(width, width, 1)
        self.queries = nn.ModuleList(nn.Conv1d(width, units, 1, bias=False) for _ in range(steps))
        self.mixes = nn.ModuleList(nn.Conv1d(2 * units, units, 1, bias=False) for _ in range(steps - 1))
        self.units = nn.Conv1d(units, width, 1, bias=False)
        self.leave = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))
        start_convolutions(self)

    def weights(self, maps: Tensor) -> Tensor:
        """(b, width, h, w) -> (b, k, h w) of which the k at each place sum to 1."""
        entered = self.enter(maps).flatten(2)
        joined, *others = (query(entered) for query in self.queries)
        for mix, query in zip(self.mixes, others, strict=True):
            joined = mix(torch.cat([joined, query], dim=1))
        return F.normalize(joined.softmax(dim=2), p=1, dim=1)

    def forward(self, maps: Tensor) -> Tensor:
        attended = self.units(self.weights(maps)).unflatten(2, maps.shape[2:])
        return F.relu(maps + self.leave(attended))


def dispersion(looks: Tensor) -> Tensor:
    """Overlap of M maps: (b, M, places), each a distribution after a softmax -> scalar; 1 if all are at one place."""
    shares = looks.softmax(dim=2)
    first, second = torch.triu_indices(looks.shape[1], looks.shape[1], offset=1, device=looks.device)
    return (shares[:, first] * shares[:, second]).sum(dim=2).mean()


class Method(baseline.Method):
    config: Config

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        reject_standardise(head, "agmh")
        super().__init__(backbone, head, sizes, config)
        width = backbone.n_features // 4
        self.last_stage = backbone.copy_last_stage(stride=1)
        # All descriptors at once: a convolution's and batch norm's channels do not meet.
        self.descriptors = nn.Sequential(
            nn.Conv2d(backbone.n_features, config.descriptors * width, 1),
            nn.BatchNorm2d(config.descriptors * width),
            nn.ReLU(),
        )
        start_convolutions(self.descriptors, width)
        self.attention = nn.ModuleList(StepwiseAttention(width, config.steps) for _ in range(config.descriptors))
        self.head = HashHead(head, config.descriptors * width, sizes.n_bits)
        self.features_key = f"descriptors-{config.descriptors}"
        if config.dispersion:
            self.embedding_key = "anchor+looks"

    def described(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, M width, h/16, w/16)."""
        maps: Tensor = self.descriptors(self.last_stage(self.backbone.stage_maps(images, 3)[2]))
        return maps

    def looks(self, maps: Tensor) -> Tensor:
        """Each descriptor's largest channel after its attention: (b, M width, h, w) -> (b, M, h, w)."""
        descriptors = maps.chunk(self.config.descriptors, dim=1)
        attended = [look(maps) for look, maps in zip(self.attention, descriptors, strict=True)]
        return torch.stack(attended, dim=1).amax(dim=2)

    def features(self, images: Tensor) -> Tensor:
        return self.described(images).mean(dim=(2, 3))

    def embed(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.described(images)
        features = {"anchor": maps.mean(dim=(2, 3))}
        if self.config.dispersion:
            features["looks"] = self.looks(maps).flatten(2)
        return features

    def attentions(self, images: Tensor) -> Tensor:
        return self.looks(self.described(images))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        terms = self.anchor_loss(torch.tanh(self.head(batch.features["anchor"]).float()), batch)
        if self.config.dispersion:
            terms["dispersion"] = self.config.dispersion * dispersion(batch.features["looks"])
        return terms
