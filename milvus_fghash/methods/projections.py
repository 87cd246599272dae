"""Shared by the methods on fixed features: centring, an affine map in buffers, principal axes, rotation.

Axes and rotation are in `affine` once more, in NumPy: here they are for methods that compute on a GPU.
"""

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
    least, largest = torch.aminmax(features, dim=0)
    affine.reject_equal(least.cpu().numpy(), largest.cpu().numpy(), len(features))


def principal_axes(centred: Tensor, count: int) -> Tensor:
    """The ``count`` directions of largest variance of (n, n_features) -> (n_features, count), largest first."""
    ascending: Tensor = torch.linalg.eigh(centred.T @ centred).eigenvectors
    return ascending.flip(1)[:, :count]


def nearest_rotation(projected: Tensor, signs: Tensor) -> Tensor:
    """The R of orthonormal columns or rows, (d, c), with the largest trace of B^T Y R; Y ``projected``, (n, d), and B
    ``signs``, (n, c). For d = c, which is ITQ, it has the smallest ||B - Y R||."""
    left, _, right = torch.linalg.svd(projected.T @ signs, full_matrices=False)
    rotation: Tensor = left @ right
    return rotation


def solve_rotation(projected: Tensor, rotation: Tensor, iterations: int) -> Tensor:
    """Solve the codes and the rotation in turn; a zero logit's sign is -1, as in `milvus_fghash.core.codes.pack`.

    Args:
        projected: (n, d) centred features on their principal axes.
        rotation: (d, c) of orthonormal columns or rows, to start from.
        iterations: how often.

    Returns:
        (d, c), likewise.
    """
    for _ in range(iterations):
        signs = (projected @ rotation > 0).to(projected) * 2 - 1
        rotation = nearest_rotation(projected, signs)
    return rotation
