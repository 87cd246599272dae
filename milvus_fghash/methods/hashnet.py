"""HashNet: deep learning to hash by continuation (Cao et al., ICCV 2017).

The outputs u = tanh(beta z) sharpen towards signs while beta grows, so no quantisation term is needed. A pair's loss is
that of DPSH with theta = alpha u_i . u_j, and similar pairs together weigh as much as dissimilar ones
(`Pairs.mean`). Encoding takes z, which has the signs of u.

Differs from the paper, as in public code: a batch is compared with a memory of all photos of the round
(`memory_bank.py`), alpha is 0.1 at every code length, and beta = sqrt(stage). There a stage lasts 15 to 20 passes; as
schedules here are of any length, it is an equal share of the rounds, and how many there are is an option. The weights
count the pairs that a batch compares, not those of the whole set.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, Batch, Round, Sizes
from milvus_fghash.methods.dpsh import negative_log_likelihood
from milvus_fghash.methods.memory_bank import PairwiseMethod
from milvus_fghash.recipes.schema import HeadChoice


class Config(Frozen):
    alpha: Annotated[float, Field(gt=0)] | Literal["10/c"] = 0.1
    """Slope of the likelihood; `10/c` is the paper's, for c bits."""
    stages: Annotated[int, Field(gt=0)] = 10
    """Beta goes from 1 by sqrt(2), sqrt(3) ... towards the root of this; it changes between rounds only."""


class Method(PairwiseMethod):
    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, head, sizes)
        self.config = config
        self.alpha = 10 / sizes.n_bits if config.alpha == "10/c" else config.alpha

    def before_round(self, at: Round) -> None:
        super().before_round(at)
        self.beta = math.sqrt(1 + at.number * self.config.stages // at.rounds)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        u = torch.tanh(self.beta * self.head(batch.features["anchor"]).float())
        pairs = self.pairs(batch, u)
        values = negative_log_likelihood(self.alpha * u @ pairs.outputs.T, pairs.similar)
        return {"pairs": pairs.mean(values, balanced=True)}
