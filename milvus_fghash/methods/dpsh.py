"""DPSH: deep supervised hashing with pairwise labels (Li et al., IJCAI 2016).

The likelihood of a pair's similarity s, 1 or 0, under theta = u_i . u_j / 2, on logits without tanh,

    mean over pairs of [ log(1 + exp(theta)) - s theta ]  +  eta * mean over logits of (u - sign u)^2 .

Differs from the paper, as in public code: both sums are means, to which eta = 0.1 belongs, and a batch is compared with
a memory of all photos of the round (`memory_bank.py`). Balanced pairs are HashNet's, an option here: of many classes,
99 % of the pairs are dissimilar, and logits near 0 are then almost optimal.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, Batch, Sizes
from milvus_fghash.methods.memory_bank import PairwiseMethod
from milvus_fghash.recipes.schema import HeadChoice


class Config(Frozen):
    eta: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the quantisation term; 0 leaves it out."""
    balanced: bool = False
    """Whether similar and dissimilar pairs have the same total weight, instead of all pairs the same weight."""


def negative_log_likelihood(theta: Tensor, similar: Tensor) -> Tensor:
    """Loss of each pair; both (b, n) -> (b, n). `softplus` stays finite for any theta."""
    return F.softplus(theta) - similar * theta


class Method(PairwiseMethod):
    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, head, sizes)
        self.config = config

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        u = self.head(batch.features["anchor"]).float()
        pairs = self.pairs(batch, u)
        values = negative_log_likelihood(u @ pairs.outputs.T / 2, pairs.similar)
        terms = {"pairs": pairs.mean(values, balanced=self.config.balanced)}
        if self.config.eta:
            terms["quantisation"] = self.config.eta * (u.abs() - 1).square().mean()
        return terms
