"""Shared by the methods on fixed features: centring, and an affine map in buffers."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor, nn

from milvus_fghash.methods import affine
from milvus_fghash.methods.affine import AffineProjection


class Centred(nn.Module):
    """x -> x - mean, in a buffer that is saved and exported like a weight.

    With ``normalise``, each nonzero x is first scaled to length 1.
    """

    mean: Tensor

    def __init__(self, n_features: int, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = normalise
        self.register_buffer("mean", torch.zeros(n_features))

    def scaled(self, features: Tensor) -> Tensor:
        """(n, n_features) as they are, or of length 1."""
        return F.normalize(features) if self.normalise else features

    def fit(self, features: Tensor) -> Tensor:
        """Take the mean of the training set's (n, n_features); returns them scaled and centred, in float64.

        Raises:
            DataError: when all are equal.
        """
        differences, mean = affine.centred(features.cpu().numpy(), self.normalise)
        self.mean.copy_(torch.from_numpy(mean))
        return torch.from_numpy(differences).to(features.device)

    def forward(self, features: Tensor) -> Tensor:
        return self.scaled(features) - self.mean


class Projection(Centred):
    """x -> (x - mean) W^T; zero until a method fills the weight, (n_outputs, n_features)."""

    weight: Tensor

    def __init__(self, n_features: int, n_outputs: int, normalise: bool = False) -> None:
        super().__init__(n_features, normalise)
        self.register_buffer("weight", torch.zeros(n_outputs, n_features))

    def load(self, projection: AffineProjection) -> None:
        """Take the arrays of a projection that was fitted in NumPy."""
        self.mean.copy_(torch.from_numpy(projection.mean))
        self.weight.copy_(torch.from_numpy(projection.weight))

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features) @ self.weight.T


def principal_axes(centred: Tensor, count: int) -> Tensor:
    """The ``count`` directions of largest variance of (n, n_features) -> (n_features, count), largest first."""
    return torch.from_numpy(affine.principal_axes(centred.cpu().numpy(), count).copy()).to(centred)
