"""A2-Net: attribute-aware codes that reconstruct the features (Wei et al., NeurIPS 2021).

    f = [f_1, ..., f_M, g] of `parts.py`;   v = W f,  u = tanh(v);   f^ = W^T u

One matrix W, without a bias, is encoder and decoder. Beside the two ADSH terms of `baseline.py`, for B photos:

    reconstruction = mean over all entries of (f^ - f)^2
    decorrelation  = mean over the c x c entries of (U^T U - B I)^2 / (B c)      U: the B outputs u, (B, c)

The first half of the rounds has the ADSH terms alone, the second half all four. Gradients of the reconstruction reach W
twice, and f from both sides of the difference.

Follows the code of the authors' group, which has two forms: four maps, each part and g scaled to length 1, W uniform in
(-1, 1) (``normalise``); and one map for each bit (``n_maps = "bits"``), unscaled, with torch's initialisation of a
linear layer. A shipped recipe has one of the two. (The defaults of the options, four maps, unscaled, are neither;
checkpoints rely on them.) B is the nominal batch size there, the real one here.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.errors import ConfigError
from milvus_fghash.methods import baseline
from milvus_fghash.methods.base import Backbone, Batch, Round, Sizes
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.methods.parts import PartsNetwork, reject_standardise
from milvus_fghash.recipes.schema import HeadChoice


class Config(baseline.Config):
    n_maps: Annotated[int, Field(gt=0)] | Literal["bits"] = 4
    """M: number of parts; `bits`: one for each bit. Each adds a pass through the last stage."""
    normalise: bool = False
    """Scale each part, and g, to length 1."""
    reconstruction: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the reconstruction of the features; 0 leaves it out."""
    decorrelation: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the decorrelation of the bits; 0 leaves it out."""
    decorrelate_from: Literal["start", "half"] = "half"
    """Whether bits are decorrelated in all rounds or in the second half."""


class TiedHead(HashHead):
    """W, and its transpose as the decoder."""

    def __init__(self, n_features: int, n_bits: int) -> None:
        super().__init__(HeadChoice(), n_features, n_bits)
        self.bits = nn.Linear(n_features, n_bits, bias=False)

    def decode(self, u: Tensor) -> Tensor:
        """(b, n_bits) -> (b, n_features)."""
        return u @ self.bits.weight


def decorrelation(u: Tensor) -> Tensor:
    """How far the bits of a batch are from uncorrelated and binary: (b, c) -> scalar."""
    b, c = u.shape
    gram = u.T @ u
    return (gram - b * torch.eye(c, device=u.device)).square().mean() / (b * c)


class Method(baseline.Method):
    config: Config
    head: TiedHead

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        reject_standardise(head, "A2-Net")
        if head.kind != "linear":
            raise ConfigError(
                f"head.kind = {head.kind!r} does not work with A2-Net, whose head is one matrix; use 'linear'"
            )
        super().__init__(backbone, head, sizes, config)
        n_maps = sizes.n_bits if config.n_maps == "bits" else config.n_maps
        self.parts = PartsNetwork(backbone, n_maps)
        self.head = TiedHead((n_maps + 1) * backbone.n_features, sizes.n_bits)
        if config.normalise:
            nn.init.uniform_(self.head.bits.weight, -1, 1)
        self.features_key = f"parts-{n_maps}" + "-normalised" * config.normalise

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.parts(self.backbone, images).features
        return (F.normalize(features, dim=2) if self.config.normalise else features).flatten(1)

    def attentions(self, images: Tensor) -> Tensor:
        return self.parts.look(self.backbone, images)

    def before_round(self, at: Round) -> None:
        super().before_round(at)
        self.second_half = at.number >= at.rounds // 2

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features, config = batch.features["anchor"], self.config
        u = torch.tanh(self.head(features).float())
        terms = self.anchor_loss(u, batch)
        if config.reconstruction and self.second_half:
            terms["reconstruction"] = config.reconstruction * F.mse_loss(self.head.decode(u), features)
        if config.decorrelation and (self.second_half or config.decorrelate_from == "start"):
            terms["decorrelation"] = config.decorrelation * decorrelation(u)
        return terms
