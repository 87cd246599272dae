"""LSH: random hyperplanes (Charikar, STOC 2002).

A code is the side of c random hyperplanes through the mean of the training features. Differs from the paper: features
are centred first, since features after a ReLU are all positive and most hyperplanes through zero would not split them.
Nothing is learned, so there is no learned gallery; the recipe's head is not used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from milvus_fghash.config import Frozen, HeadChoice
from milvus_fghash.methods.base import LearnsNothing, Sizes, Trunk, generator


class Config(Frozen):
    seed: int = 0
    """Of the hyperplanes."""


class Hyperplanes(torch.nn.Module):
    """x -> (x - mean) W^T with buffers."""

    mean: Tensor
    weight: Tensor

    def __init__(self, n_features: int, n_bits: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("weight", torch.zeros(n_bits, n_features))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) @ self.weight.T


class Method(LearnsNothing):
    def __init__(self, trunk: Trunk, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(trunk, sizes)
        self.config = config
        self.head = Hyperplanes(trunk.n_features, sizes.n_bits)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        assert isinstance(self.head, Hyperplanes)
        self.head.mean.copy_(features.mean(dim=0))
        self.head.weight.copy_(torch.randn(self.head.weight.shape, generator=generator(self.config.seed)))
