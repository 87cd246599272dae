"""Shared by the methods on fixed features: centring, an affine map in buffers, principal axes."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor, nn

from milvus_fghash.errors import DataError
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
        features = self.scaled(features.double())
        reject_equal(features)
        mean = features.mean(dim=0)
        self.mean.copy_(mean)
        return features - mean

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


def reject_equal(features: Tensor) -> None:
    """Check that the features of a training set, (n, n_features), differ by more than rounding.

    Raises:
        DataError: when they do not.
    """
    if (features.amax(dim=0) - features.amin(dim=0) <= 1e-6 * features.abs().amax()).all():
        raise DataError(
            f"the backbone gives equal features for all {len(features)} training photos; this method learns from "
            "their differences. Check that the photos are not all the same"
        )


def principal_axes(centred: Tensor, count: int) -> Tensor:
    """The ``count`` directions of largest variance of (n, n_features) -> (n_features, count), largest first."""
    ascending: Tensor = torch.linalg.eigh(centred.T @ centred).eigenvectors
    return ascending.flip(1)[:, :count]
