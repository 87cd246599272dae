"""Linear discriminant analysis against a slow form of its definition, and by what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from milvus_fghash.errors import DataError
from milvus_fghash.methods.lda import fit_lda, unit_length


def by_definition(
    features: NDArray[np.float64], classes: NDArray[np.int64], n_axes: int, shrinkage: float
) -> NDArray[np.float64]:
    """The cosines of all photos, which do not depend on the signs of the axes."""
    standard = (features - features.mean(0)) / features.std(0)
    scatter, labelled = np.zeros((features.shape[1],) * 2), 0
    for label in set(classes.tolist()) - {-1}:
        own = standard[classes == label]
        for row in own:
            scatter += np.outer(row - own.mean(0), row - own.mean(0))
            labelled += 1
    scatter /= labelled
    scatter += shrinkage * np.trace(scatter) / len(scatter) * np.eye(len(scatter))
    whitened = standard @ np.linalg.inv(np.linalg.cholesky(scatter)).T  # another root of the same inverse
    centred = whitened - whitened.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:n_axes].T
    projected = centred @ axes
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    cosines: NDArray[np.float64] = projected @ projected.T
    return cosines


@pytest.mark.parametrize(("n_axes", "shrinkage", "unlabelled"), [(3, 0.3, 0), (6, 1.0, 0), (4, 0.3, 15)])
def test_the_map_is_its_definition(n_axes: int, shrinkage: float, unlabelled: int) -> None:
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 4, 60)
    features = rng.standard_normal((4, 8))[classes] + rng.standard_normal((60, 8)) * rng.uniform(0.2, 3, 8) + 5
    classes[:unlabelled] = -1
    projected = fit_lda(features, classes, n_axes, shrinkage)(features).astype(float)
    assert projected.shape == (60, n_axes)
    expected = by_definition(features, classes, n_axes, shrinkage)
    assert projected @ projected.T == pytest.approx(expected, abs=1e-5)


def test_it_suppresses_the_directions_that_vary_within_classes() -> None:
    rng = np.random.default_rng(2)
    classes = np.arange(200) % 2
    features = np.c_[classes + 0.05 * rng.standard_normal(200), 100 * rng.standard_normal(200)]
    projected = fit_lda(features, classes, 1, 0.01)(features)[:, 0]
    assert (np.sign(projected) == np.sign(projected[classes == 1].mean()))[classes == 1].all()
    assert len(set(np.sign(projected[classes == 0]).tolist()) | {np.sign(projected[1])}) == 2


def test_without_standardising_the_map_is_that_of_the_features_as_they_are() -> None:
    rng = np.random.default_rng(4)
    classes = np.arange(60) % 3
    features = rng.standard_normal((3, 6))[classes] + rng.standard_normal((60, 6))
    features *= 1 / features.std(0)  # so that both are one
    found = [fit_lda(features, classes, 4, 0.3, standardise=on)(features).astype(float) for on in (True, False)]
    assert found[0] @ found[0].T == pytest.approx(found[1] @ found[1].T, abs=1e-5)
    scaled = features * [10, 1, 1, 1, 1, 1]
    other = fit_lda(scaled, classes, 4, 0.3, standardise=False)(scaled).astype(float)
    assert abs(other @ other.T - found[0] @ found[0].T).max() > 0.05


def test_a_feature_that_never_varies_does_no_harm() -> None:
    rng = np.random.default_rng(3)
    features = np.c_[rng.standard_normal((20, 2)), np.full(20, 7.0)]
    assert np.isfinite(fit_lda(features, np.arange(20) % 3, 2, 0.3)(features)).all()


def test_classes_of_one_photo_are_no_classes() -> None:
    with pytest.raises(DataError, match="at least two photos"):
        fit_lda(np.eye(3), np.arange(3), 2, 1.0)


def test_rows_have_length_one_but_for_zeros() -> None:
    assert unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])) == pytest.approx(np.array([[0.6, 0.8], [0, 0]]))
