"""FPH: feature pyramid hashing (Yang et al., ICMR 2019, arXiv 1904.02325).

Half of the code is semantic, from a *vertical pyramid*: the last stage's maps pooled globally and by quarters. The
other half is detail, from a *horizontal pyramid*: the three stages below, each projected to one width and pooled, and
merged by *consensus fusion*, a weighted mean whose weights follow from the features themselves. Codes are learned by a
triplet ranking loss on u = tanh(logits) of anchor a, positive p and negative n,

    mean over triplets of max(0, ||u_a - u_p||^2 - ||u_a - u_n||^2 + margin) / c ,  margin = c / 2 .

Abstract, figures and table of the paper were available, not the equations: the pooling of the vertical pyramid, the
projections, the form of the consensus weights and margin are inferred, and options. So are, without a choice, that
each pyramid has half of the bits (an odd code gives its spare bit to the detail), the normaliser and the triplets: each
photo comes with one other of its class, either is the other's positive, and every photo of another class in the batch
is a negative.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, Batch, HashMethod, Sizes
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.recipes.schema import HeadChoice


class Config(Frozen):
    grids: tuple[Annotated[int, Field(gt=1)], ...] = (2,)
    """The vertical pyramid: how many cells a side the square grids have by which the last stage's maps are pooled
    beside the whole."""
    consensus: Literal["learned", "equal"] = "learned"
    """Whether the stages of the horizontal pyramid are weighed photo by photo, or count the same."""
    width: Annotated[int, Field(gt=0)] = 512
    """Channels that each lower stage is projected to."""
    margin: Annotated[float, Field(gt=0)] = 0.5
    """Of the triplet loss, per bit."""


class ConsensusFusion(nn.Module):
    """Maps of several stages -> one feature vector, (b, width)."""

    def __init__(self, channels: tuple[int, ...], width: int, *, learned: bool = True) -> None:
        super().__init__()
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for before in channels
        )
        self.score = nn.Linear(width, 1) if learned else None

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The mean of the stages' pooled features by weights that add up to 1 in each photo."""
        pairs = zip(self.project, maps, strict=True)
        features = torch.stack([project(stage).mean(dim=(2, 3)) for project, stage in pairs], dim=1)
        if self.score is None:
            return features.mean(dim=1)
        fused: Tensor = (self.score(features).softmax(dim=1) * features).sum(dim=1)
        return fused


class PyramidHead(nn.Module):
    """The first ``n_semantic`` features -> half of the bits, the others -> the rest."""

    def __init__(self, choice: HeadChoice, n_semantic: int, n_detail: int, n_bits: int) -> None:
        super().__init__()
        self.n_semantic = n_semantic
        self.semantic = HashHead(choice, n_semantic, n_bits // 2)
        # The details are learned: what they measure before training says nothing of their scale.
        self.detail = HashHead(choice.model_copy(update={"standardise": False}), n_detail, n_bits - n_bits // 2)

    def fit(self, features: Tensor) -> None:
        self.semantic.fit(features[:, : self.n_semantic])

    def forward(self, features: Tensor) -> Tensor:
        semantic, detail = features[:, : self.n_semantic], features[:, self.n_semantic :]
        return torch.cat([self.semantic(semantic), self.detail(detail)], dim=1)


def triplet_loss(u: Tensor, positives: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Mean over all triplets of an anchor, its positive and a photo of another class, per bit; 0 if there is none.

    Args:
        u: (b, c) tanh of the logits.
        positives: (b,) place of each one's positive among them.
        labels: (b,) class numbers.
        margin: by how much the negative must be farther than the positive, in squared distance.
    """
    apart = (u[:, None] - u).square().sum(dim=2)
    to_positive = apart.gather(1, positives[:, None])
    negative = labels[:, None] != labels
    hinges = (to_positive - apart + margin).clamp(min=0) * negative
    return hinges.sum() / negative.sum().clamp(min=1) / u.shape[1]


class Method(HashMethod):
    wants_positives = True

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, sizes)
        self.config = config
        self.fusion = ConsensusFusion(backbone.stage_widths[:3], config.width, learned=config.consensus == "learned")
        n_cells = 1 + sum(side**2 for side in config.grids)
        self.head: PyramidHead = PyramidHead(head, n_cells * backbone.n_features, config.width, sizes.n_bits)
        self.features_key = f"pyramids-{'+'.join(map(str, config.grids))}-{config.consensus}"
        self.wants_features = head.standardise

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.head.fit(features)

    def features(self, images: Tensor) -> Tensor:
        """The last stage whole and by each grid, then the fused lower stages: (b, n_cells n_features + width)."""
        *lower, last = self.backbone.stage_maps(images)
        cells = [F.adaptive_avg_pool2d(last, side).flatten(1) for side in self.config.grids]
        return torch.cat([self.backbone.pool(last), *cells, self.fusion(lower)], dim=1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        # One pass through the head: with batch norm, both must be normalised by the same statistics.
        features = torch.cat([batch.features["anchor"], batch.features["positive"]])
        u = torch.tanh(self.head(features).float())
        places = torch.arange(len(u), device=u.device).roll(len(batch.rows))
        margin = self.config.margin * self.sizes.n_bits
        return {"triplets": triplet_loss(u, places, batch.labels.repeat(2), margin)}
