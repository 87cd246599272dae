"""Linear discriminant analysis in NumPy: the supervised map that makes classes compact, in closed form.

Fisher's analysis as a whitening (Fukunaga, "Introduction to Statistical Pattern Recognition", 1990, section 10.2): the
within-class scatter becomes the unit matrix, then principal axes are kept. Own code, as scikit-learn's
LinearDiscriminantAnalysis keeps at most C - 1 axes and cannot use photos without a class. It needs no torch, as
evaluation has it as ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.errors import DataError

Features = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class LinearMap:
    """Standardise, project, scale to length 1.

    Attributes:
        mean: (n_features,) float64.
        weight: (n_features, n_axes) float64, with the standard deviations inside where features are standardised.
    """

    mean: NDArray[np.float64]
    weight: NDArray[np.float64]

    def __call__(self, features: Features) -> NDArray[np.float32]:
        """(n, n_features) -> (n, n_axes) of length 1."""
        return unit_length((features - self.mean) @ self.weight)


def fit_lda(
    features: Features, classes: NDArray[np.integer[Any]], n_axes: int, shrinkage: float, *, standardise: bool = True
) -> LinearMap:
    """Fit the map on photos with and without classes.

    The within-class scatter S of the features, standardised first or only centred, is shrunk to S + s m I, with m its
    mean eigenvalue, and whitened; then the first principal axes of all whitened photos are kept.

    Args:
        features: (n, n_features).
        classes: (n,) class numbers; -1 for a photo without a class, which counts for the mean, the scale and the axes.
        n_axes: axes that are kept, as far as there are that many. Good values: number of classes - 1 for known
            classes, 256 for new ones.
        shrinkage: s; 0.3 for number of classes - 1 axes, 1 for 256.
        standardise: divide each feature by its standard deviation.

    Raises:
        DataError: when no class has two photos.
    """
    mean, scale = features.mean(axis=0, dtype=np.float64), np.ones(features.shape[1])
    if standardise:
        deviation = features.std(axis=0, dtype=np.float64)
        scale = 1 / np.where(deviation > 0, deviation, 1)
    standard = (features - mean) * scale
    total = standard.T @ standard
    labelled = classes >= 0
    _, numbers, counts = np.unique(classes[labelled], return_inverse=True, return_counts=True)
    if not (counts > 1).any():
        raise DataError("linear discriminant analysis needs a class of at least two photos")
    by_class = standard[labelled][np.argsort(numbers, kind="stable")]
    sums = np.add.reduceat(by_class, np.cumsum(counts) - counts, axis=0)
    own = total if labelled.all() else by_class.T @ by_class
    within = (own - (sums.T / counts) @ sums) / len(by_class)
    values, vectors = np.linalg.eigh(within)
    values = np.maximum(values, 0)
    whitening = vectors / np.sqrt(values + shrinkage * max(values.mean(), np.finfo(float).tiny))
    _, axes = np.linalg.eigh(whitening.T @ total @ whitening)  # ascending
    return LinearMap(mean, scale[:, None] * (whitening @ axes[:, ::-1][:, :n_axes]))


def unit_length(rows: Features) -> NDArray[np.float32]:
    """Rows scaled to length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
