"""LSH and ITQ in NumPy, so that `wrap` needs no torch; `lsh` and `itq` describe the methods.

The torch modules of both hold the arrays that are computed here, so `train` and `wrap` fit the same head to the same
features. Principal axes and rotation are in torch once more (`projections`): `sh` and `posterior-itq` compute them on a
GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.errors import DataError
from milvus_fghash.recipes.schema import Seed

Floats = NDArray[Any]
"""Of any precision; sums over photos are in float64."""

TINY = 1e-12
"""Least length by which features are divided, as in torch's `normalize`."""


ROUNDING = 1e-6
"""By which equal features may differ, as a share of the largest magnitude."""


class LshConfig(Frozen):
    normalise: bool = False
    """Scale each photo's features to length 1 first."""
    seed: Seed = 0
    """Seed of the hyperplanes."""


class ItqConfig(Frozen):
    iterations: Annotated[int, Field(gt=0)] = 50
    """How often codes and rotation are solved in turn."""
    normalise: bool = False
    """Scale each photo's features to length 1 first."""
    seed: Seed = 0
    """Seed of the initial rotation."""


@dataclass(frozen=True)
class AffineProjection:
    """x -> (x - mean) W^T, where each nonzero x is first scaled to length 1 with ``normalise``."""

    mean: NDArray[np.float32]
    """(n_features,)"""
    weight: NDArray[np.float32]
    """(n_bits, n_features)"""
    normalise: bool

    @classmethod
    def of(cls, mean: Floats, weight: Floats, normalise: bool) -> AffineProjection:
        """The same in float32, in C order."""
        return cls(np.asarray(mean, np.float32), np.ascontiguousarray(weight, np.float32), normalise)

    def logits(self, features: Floats) -> NDArray[np.float32]:
        """(n, n_features) -> (n, n_bits)."""
        result: NDArray[np.float32] = (scaled(features, self.normalise) - self.mean) @ self.weight.T
        return result


def scaled(features: Floats, normalise: bool) -> Floats:
    """(n, n_features) as they are, or of length 1."""
    if not normalise:
        return features
    unit: Floats = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), TINY)
    return unit


def reject_equal(least: Floats, largest: Floats, count: int) -> None:
    """Check that the features of a training set differ by more than rounding.

    Args:
        least: (n_features,) the least value of each feature.
        largest: (n_features,) the largest.
        count: number of photos.

    Raises:
        DataError: when they do not.
    """
    if (largest - least <= ROUNDING * max(np.abs(least).max(), np.abs(largest).max())).all():
        raise DataError(
            f"the backbone gives equal features for all {count} training photos; this method learns from their "
            "differences. Check that the photos are not all the same"
        )


def centred(features: Floats, normalise: bool) -> tuple[Floats, Floats]:
    """(n, n_features) scaled and less their mean, in float64, and the mean.

    Raises:
        DataError: when all rows are equal.
    """
    features = scaled(np.asarray(features, np.float64), normalise)
    reject_equal(features.min(axis=0), features.max(axis=0), len(features))
    mean = features.mean(axis=0)
    return features - mean, mean


def principal_axes(centred: Floats, count: int) -> Floats:
    """The ``count`` directions of largest variance of (n, n_features) -> (n_features, count), largest first."""
    axes: Floats = np.linalg.eigh(centred.T @ centred).eigenvectors[:, ::-1][:, :count]
    return axes


def nearest_rotation(projected: Floats, signs: Floats) -> Floats:
    """The R, (k, c) with orthonormal rows, with the smallest ||B - Y R||; Y ``projected`` (n, k), B ``signs``."""
    left, _, right = np.linalg.svd(projected.T @ signs, full_matrices=False)
    rotation: Floats = left @ right
    return rotation


def solve_rotation(projected: Floats, rotation: Floats, iterations: int) -> Floats:
    """Solve the codes and the rotation in turn; a zero logit's sign is -1, as in `milvus_fghash.core.codes.pack`.

    Args:
        projected: (n, k) centred features on their principal axes.
        rotation: (k, c) with orthonormal rows, k <= c, to start from.
        iterations: how often.

    Returns:
        (k, c) with orthonormal rows.
    """
    for _ in range(iterations):
        rotation = nearest_rotation(projected, np.where(projected @ rotation > 0, 1.0, -1.0))
    return rotation


def fit_lsh(features: Floats, bits: int, config: LshConfig) -> AffineProjection:
    """Random hyperplanes through the mean of (n, n_features)."""
    mean = scaled(features, config.normalise).mean(axis=0)
    weight = np.random.default_rng(config.seed).standard_normal((bits, features.shape[1]))
    return AffineProjection.of(mean, weight, config.normalise)


def fit_itq(features: Floats, bits: int, config: ItqConfig) -> AffineProjection:
    """Principal axes of (n, n_features), rotated from a random start so that their signs lose little.

    Raises:
        DataError: when all rows are equal.
    """
    differences, mean = centred(features, config.normalise)
    axes = principal_axes(differences, min(bits, features.shape[1], max(1, len(features) - 1)))
    random = np.random.default_rng(config.seed).standard_normal((bits, bits))
    start = np.linalg.qr(random).Q[: axes.shape[1]]
    rotation = solve_rotation(differences @ axes, start, config.iterations)
    return AffineProjection.of(mean, (axes @ rotation).T, config.normalise)
