"""DSH: deep supervised hashing (Liu et al., CVPR 2016).

A contrastive loss on logits without tanh, with D = ||u_i - u_j||^2 and margin m = 2c for c bits,

    mean over pairs of [ D / 2 if similar, max(m - D, 0) / 2 if not ]  +  weight * mean over logits of | |u| - 1 | .

Differs from the paper, as in public code: a batch is compared with a memory of all photos of the round, not with itself
alone (`memory_bank.py`), and the second term is a mean too, so that its weight keeps its meaning over code lengths.

The fewer the classes, the more pairs are similar, and the larger is the pull of a photo to its class: a learning rate
at which 100 classes train makes those of six diverge. With ``scale = "classes"`` every term is multiplied by
min(1, n_classes / 100), so that one rate serves both.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field
from torch import Tensor

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, Batch, Sizes
from milvus_fghash.methods.memory_bank import PairwiseMethod
from milvus_fghash.recipes.schema import HeadChoice

MANY_CLASSES: Final = 100


class Config(Frozen):
    margin: Annotated[float, Field(gt=0)] = 2.0
    """m per bit: dissimilar logits are pushed apart up to a squared distance of ``margin`` times the code length."""
    weight: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the pull of each logit towards +1 or -1; 0 leaves it out."""
    scale: Literal["classes", "none"] = "none"
    """Factor of every term."""


def contrast(u: Tensor, others: Tensor, similar: Tensor, margin: float) -> Tensor:
    """The loss of each pair; u (b, c), others (n, c), similar (b, n) -> (b, n)."""
    squares = u.square().sum(dim=1)[:, None] + others.square().sum(dim=1)
    apart = (squares - 2 * u @ others.T).clamp(min=0)  # rounding may make the distance of equal logits negative
    return similar * apart / 2 + ~similar * (margin - apart).clamp(min=0) / 2


class Method(PairwiseMethod):
    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, head, sizes)
        self.config = config

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        u = self.head(batch.features["anchor"]).float()
        pairs = self.pairs(batch, u)
        values = contrast(u, pairs.outputs, pairs.similar, self.config.margin * self.sizes.n_bits)
        scale = min(1.0, self.sizes.n_classes / MANY_CLASSES) if self.config.scale == "classes" else 1.0
        terms = {"pairs": scale * pairs.mean(values)}
        if self.config.weight:
            terms["quantisation"] = scale * self.config.weight * (u.abs() - 1).abs().mean()
        return terms
