"""Hash heads: pooled features -> logits, one per bit."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from milvus_fghash.recipes.schema import HeadChoice


class Standardise(nn.Module):
    """(x - mean) / deviation, in buffers that are saved and exported like weights; the identity until `fit`."""

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def fit(self, features: Tensor) -> None:
        """Take mean and deviation of (n, n_features); constant features are not scaled."""
        self.mean.copy_(features.mean(dim=0))
        deviation = features.std(dim=0, correction=0)
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, 1.0))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.scale


class HashHead(nn.Sequential):
    """`linear`: one linear layer, the papers' form. `mlp`: dropout, linear, batch norm, ReLU, linear.

    With ``norm_logits`` each bit is batch-normalised last, so that it splits the photos in half; for encoding the head
    remains one affine map.
    """

    def __init__(self, choice: HeadChoice, n_features: int, n_bits: int, *, norm_logits: bool = False) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if choice.standardise:
            layers["standardise"] = Standardise(n_features)
        if choice.kind == "mlp":
            layers["dropout"] = nn.Dropout(choice.dropout)
            layers["hidden"] = nn.Linear(n_features, choice.hidden)
            layers["norm"] = nn.BatchNorm1d(choice.hidden)
            layers["relu"] = nn.ReLU()
            n_features = choice.hidden
        layers["bits"] = nn.Linear(n_features, n_bits)
        if norm_logits:
            layers["norm_bits"] = nn.BatchNorm1d(n_bits)
        super().__init__(layers)

    def fit(self, features: Tensor) -> None:
        """Take mean and deviation from the training set's centre-crop features, (n, n_features), before training."""
        for layer in self:
            if isinstance(layer, Standardise):
                layer.fit(features)
