"""The rotation of ITQ in torch against other rotations, another solver, and the same in NumPy."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from milvus_fghash.methods import affine
from milvus_fghash.methods.projections import nearest_rotation, principal_axes, solve_rotation


def drawn(seed: int, n: int = 20, c: int = 4) -> tuple[Tensor, torch.Generator]:
    """(n, c) projected features of unequal spread, and the generator for what follows."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, c, generator=random, dtype=torch.float64) * torch.arange(c, 0, -1), random


def orthogonal(c: int, random: torch.Generator) -> Tensor:
    rotation: Tensor = torch.linalg.qr(torch.randn(c, c, generator=random, dtype=torch.float64)).Q
    return rotation


def signs_of(outputs: Tensor) -> Tensor:
    return torch.where(outputs > 0, 1.0, -1.0).double()


def loss(projected: Tensor, rotation: Tensor, signs: Tensor) -> float:
    """||B - Y R||^2"""
    return float((signs - projected @ rotation).square().sum())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_no_other_rotation_comes_nearer(seed: int) -> None:
    projected, random = drawn(seed)
    signs = signs_of(torch.randn(projected.shape, generator=random))
    best = nearest_rotation(projected, signs)
    torch.testing.assert_close(best @ best.T, torch.eye(4, dtype=torch.float64))
    for _ in range(20):
        turn = torch.randn(4, 4, generator=random, dtype=torch.float64)
        close_by = best @ torch.linalg.matrix_exp(0.01 * (turn - turn.T))
        for other in (orthogonal(4, random), close_by):
            assert loss(projected, other, signs) >= loss(projected, best, signs) - 1e-9


def polar(matrix: Tensor) -> Tensor:
    """The orthogonal factor (M M^T)^(-1/2) M, another road to the nearest rotation."""
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    rotation: Tensor = vectors @ torch.diag(values.rsqrt()) @ vectors.T @ matrix
    return rotation


def test_the_iterations_are_those_of_the_paper() -> None:
    projected, random = drawn(1)
    start = expected = orthogonal(4, random)
    for _ in range(6):
        expected = polar(projected.T @ signs_of(projected @ expected))
    torch.testing.assert_close(solve_rotation(projected, start, 6), expected)


def test_a_zero_output_counts_as_minus_one() -> None:
    projected = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    # signs (1, -1), (1, 1), so Y^T B = ((2, 0), (1, 1))
    expected = polar(torch.tensor([[2.0, 0.0], [1.0, 1.0]], dtype=torch.float64))
    torch.testing.assert_close(solve_rotation(projected, torch.eye(2, dtype=torch.float64), 1), expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_no_iteration_raises_the_loss(seed: int) -> None:
    projected, random = drawn(seed)
    rotation = orthogonal(4, random)
    values = []
    for _ in range(10):
        values.append(loss(projected, rotation, signs_of(projected @ rotation)))
        rotation = solve_rotation(projected, rotation, 1)
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(values))


@pytest.mark.parametrize("bits", [4, 9])
def test_no_iteration_raises_the_loss_of_more_bits_than_axes(bits: int) -> None:
    projected, random = drawn(3)
    rotation = orthogonal(bits, random)[:4]
    values = []
    for _ in range(10):
        values.append(loss(projected, rotation, signs_of(projected @ rotation)))
        rotation = solve_rotation(projected, rotation, 1)
    assert values[-1] < values[0]
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(values))


@pytest.mark.parametrize(("axes", "bits"), [(7, 3), (3, 7), (5, 128), (64, 8)])
def test_no_other_map_of_orthonormal_columns_or_rows_keeps_more_of_the_signs(axes: int, bits: int) -> None:
    projected, random = drawn(5, c=axes)
    signs = signs_of(torch.randn(len(projected), bits, generator=random))
    best = nearest_rotation(projected, signs)
    short = best @ best.T if axes <= bits else best.T @ best
    torch.testing.assert_close(short, torch.eye(min(axes, bits), dtype=torch.float64))
    for _ in range(5):
        other = orthogonal(max(axes, bits), random)[:axes, :bits]
        assert (projected @ other * signs).sum() < (projected @ best * signs).sum()


@pytest.mark.parametrize(("axes", "bits"), [(9, 4), (4, 9), (6, 1024), (64, 8)])
def test_each_iteration_of_a_rectangular_rotation_moves_outputs_away_from_zero(axes: int, bits: int) -> None:
    """sum |Y R|, which both halves of an iteration raise; for more axes than bits the loss itself need not fall."""
    projected, random = drawn(7, n=30, c=axes)
    rotation = orthogonal(max(axes, bits), random)[:axes, :bits]
    values = [float((projected @ rotation).abs().sum())]
    for _ in range(5):
        rotation = solve_rotation(projected, rotation, 1)
        values.append(float((projected @ rotation).abs().sum()))
    assert values[-1] > values[0]
    assert all(later >= earlier * (1 - 1e-12) for earlier, later in itertools.pairwise(values))


@pytest.mark.parametrize(("axes", "bits"), [(4, 4), (4, 7)])
def test_axes_and_rotation_are_those_in_numpy(axes: int, bits: int) -> None:
    projected, random = drawn(11, n=40, c=axes)
    start = orthogonal(bits, random)[:axes]
    solved = solve_rotation(projected, start, 5).numpy()
    np.testing.assert_allclose(solved, affine.solve_rotation(projected.numpy(), start.numpy(), 5), atol=1e-9)
    found, expected = principal_axes(projected, 3).numpy(), affine.principal_axes(projected.numpy(), 3)
    np.testing.assert_allclose(found * np.sign(found[0]), expected * np.sign(expected[0]), atol=1e-9)
