"""The projections in NumPy: rotations against other rotations, heads against a slow loop."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milvus_fghash.errors import DataError
from milvus_fghash.methods.affine import (
    AffineProjection,
    ItqConfig,
    LshConfig,
    centred,
    fit_itq,
    fit_lsh,
    nearest_rotation,
    principal_axes,
    solve_rotation,
)


def drawn(n: int = 40, d: int = 6, seed: int = 0) -> np.ndarray:
    """(n, d) of unequal spread around a mean that is not zero."""
    return np.random.default_rng(seed).standard_normal((n, d)) * np.arange(d, 0, -1) + 3


def test_logits_worked_by_hand() -> None:
    projection = AffineProjection.of(np.array([0.5, 0.0]), np.array([[1.0, 2.0], [0.0, -1.0]]), normalise=True)
    # (3, 4) has length 5: (0.6, 0.8) - (0.5, 0) = (0.1, 0.8); 0.1 + 1.6, -0.8. (0, 0) stays: (-0.5, 0).
    np.testing.assert_allclose(projection.logits(np.array([[3.0, 4.0], [0.0, 0.0]])), [[1.7, -0.8], [-0.5, 0.0]])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([4, 6]))
def test_no_other_rotation_comes_nearer(seed: int, bits: int) -> None:
    random = np.random.default_rng(seed)
    projected = drawn(20, 4, seed)
    signs = np.where(random.random((20, bits)) > 0.5, 1.0, -1.0)
    best = nearest_rotation(projected, signs)
    np.testing.assert_allclose(best @ best.T, np.eye(4), atol=1e-12)
    for _ in range(20):
        other = np.linalg.qr(random.standard_normal((bits, bits))).Q[:4]
        assert np.sum((signs - projected @ other) ** 2) >= np.sum((signs - projected @ best) ** 2) - 1e-9


def test_no_iteration_raises_the_loss_and_a_zero_counts_as_minus_one() -> None:
    projected = drawn(30, 4) - 3
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4))).Q
    losses = []
    for _ in range(8):
        signs = np.where(projected @ rotation > 0, 1.0, -1.0)
        losses.append(np.sum((signs - projected @ rotation) ** 2))
        rotation = solve_rotation(projected, rotation, 1)
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(losses))
    solved = solve_rotation(np.array([[0.0, 1.0]] * 3), np.eye(2), 1)
    np.testing.assert_allclose(solved[1], [-1, 1] / np.sqrt(2), atol=1e-12)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("bits", [4, 6, 10])
def test_itq_is_principal_axes_and_an_orthonormal_rotation(bits: int, normalise: bool) -> None:
    features = drawn()
    projection = fit_itq(features, bits, ItqConfig(normalise=normalise))
    differences, mean = centred(features, normalise)
    np.testing.assert_allclose(projection.mean, mean, rtol=1e-5)
    axes = principal_axes(differences, min(bits, 6))
    spread = np.linalg.svd(differences, full_matrices=False)
    np.testing.assert_allclose(np.abs(axes.T @ spread.Vh[: min(bits, 6)].T), np.eye(min(bits, 6)), atol=1e-6)
    rotation = projection.weight @ axes
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(min(bits, 6)), atol=1e-5)
    assert projection.weight.shape == (bits, 6)


def test_lsh_goes_through_the_mean_and_seeds_decide() -> None:
    features = drawn()
    projection = fit_lsh(features, 8, LshConfig())
    np.testing.assert_allclose(projection.logits(features).mean(axis=0), 0, atol=1e-4)
    assert np.array_equal(projection.weight, fit_lsh(drawn(seed=1), 8, LshConfig()).weight)
    assert not np.allclose(projection.weight, fit_lsh(features, 8, LshConfig(seed=1)).weight)
    one, same, other = (fit_itq(features, 4, ItqConfig(seed=seed)).weight for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)


def test_equal_features_are_rejected() -> None:
    with pytest.raises(DataError, match="equal features for all 3"):
        fit_itq(np.ones((3, 4)), 2, ItqConfig())
    rounding = 1 + 1e-7 * np.random.default_rng(0).random((3, 4))
    with pytest.raises(DataError, match="equal features for all 3"):
        fit_itq(rounding, 2, ItqConfig(normalise=True))
