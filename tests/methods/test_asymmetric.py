"""The summed form of the ADSH loss and code step against loops written from the formulas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from milvus_fghash.errors import DataError
from milvus_fghash.methods.asymmetric import PairTarget, dissimilarity, solve_codes


def soft_similarity(round_labels: Tensor, labels: Tensor) -> Tensor:
    """The m x N matrix: S01 (1 + r) - r with r = ones / zeros of this very block."""
    same = (round_labels[:, None] == labels[None]).double()
    r = same.sum() / (1 - same).sum()
    return same * (1 + r) - r


def loss_by_loops(u: Tensor, signs: Tensor, similarity: Tensor) -> list[float]:
    """sum_j (u_i . v_j - c S_ij)^2, one photo after the other."""
    c = u.shape[1]
    return [sum(float(u[i] @ signs[j] - c * similarity[i, j]) ** 2 for j in range(len(signs))) for i in range(len(u))]


def objective(u: Tensor, signs: Tensor, similarity: Tensor, rows: Tensor, gamma: float) -> float:
    """J of the module's docstring, with the full matrices."""
    pairs = (u @ signs.T - u.shape[1] * similarity).square().sum()
    return float(pairs + gamma * (signs[rows] - u).square().sum())


def drawn(seed: int, n: int = 14, m: int = 6, c: int = 5, n_classes: int = 3) -> tuple[Tensor, ...]:
    """(u, signs, rows, labels): labels unbalanced, rows a sample without replacement."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(n_classes, (n,), generator=random)
    labels[:2] = torch.tensor([0, 1])  # at least two classes
    rows = torch.randperm(n, generator=random)[:m]
    u = torch.randn(m, c, generator=random, dtype=torch.float64).tanh()
    signs = torch.randint(0, 2, (n, c), generator=random).double() * 2 - 1
    return u, signs, rows, labels


def test_dissimilarity_worked_by_hand() -> None:
    # round labels 0, 0, 1 against labels 0, 0, 0, 1: similar 3 + 3 + 1 = 7 of 12 pairs, so r = 7 / 5
    assert dissimilarity(torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0, 1]), 2) == pytest.approx(7 / 5)


def test_one_class_has_no_dissimilar_pair() -> None:
    with pytest.raises(DataError, match="at least two"):
        dissimilarity(torch.tensor([0, 0]), torch.tensor([0, 0, 0]), 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_the_summed_loss_is_the_loss_of_the_formula(seed: int) -> None:
    u, signs, rows, labels = drawn(seed)
    similarity = soft_similarity(labels[rows], labels)
    target = PairTarget.of(signs, labels, dissimilarity(labels[rows], labels, 3), 3)
    actual = target.loss(u, labels[rows])
    assert actual.tolist() == pytest.approx(loss_by_loops(u, signs, similarity))


def test_the_gradient_of_the_summed_loss_is_that_of_the_formula() -> None:
    # FCAENet eq. 14: dJ/du = 2 sum_j (u . v_j - c S_j) v_j
    u, signs, rows, labels = drawn(1)
    u.requires_grad_()
    similarity = soft_similarity(labels[rows], labels)
    loss = PairTarget.of(signs, labels, dissimilarity(labels[rows], labels, 3), 3).loss(u, labels[rows])
    (gradient,) = torch.autograd.grad(loss.sum(), u)
    torch.testing.assert_close(gradient, 2 * (u.detach() @ signs.T - 5 * similarity) @ signs)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 20.0]))
def test_the_code_step_is_the_sweep_of_the_formula(seed: int, gamma: float) -> None:
    u, signs, rows, labels = drawn(seed)
    c = u.shape[1]
    # eq. 17 with full matrices: V_k = -sign(2 Vhat Uhat^T u_k + Q_k), Q = -2 c S^T U - 2 gamma Ubar
    padded = torch.zeros(len(signs), c, dtype=torch.float64)
    padded[rows] = u
    q = -2 * c * soft_similarity(labels[rows], labels).T @ u - 2 * gamma * padded
    expected = signs.clone()
    for k in range(c):
        others = [column for column in range(c) if column != k]
        value = 2 * expected[:, others] @ (u[:, others].T @ u[:, k]) + q[:, k]
        expected[:, k] = torch.where(value <= 0, 1.0, -1.0)
    actual = solve_codes(signs, u, rows, labels, dissimilarity(labels[rows], labels, 3), 3, gamma)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 2.0]))
def test_at_the_fixed_point_no_single_flip_helps(seed: int, gamma: float) -> None:
    u, signs, rows, labels = drawn(seed)
    similarity, r = soft_similarity(labels[rows], labels), dissimilarity(labels[rows], labels, 3)
    values = [objective(u, signs, similarity, rows, gamma)]
    while True:
        solved = solve_codes(signs, u, rows, labels, r, 3, gamma)
        values.append(objective(u, solved, similarity, rows, gamma))
        assert values[-1] <= values[-2] + 1e-9
        if torch.equal(solved, signs):
            break
        signs = solved
        assert len(values) < 50
    for j in range(len(signs)):
        for k in range(signs.shape[1]):
            flipped = signs.clone()
            flipped[j, k] *= -1
            assert objective(u, flipped, similarity, rows, gamma) >= values[-1] - 1e-9


def test_a_tie_becomes_plus_one() -> None:
    labels = torch.tensor([0, 1])
    solved = solve_codes(-torch.ones(2, 3), torch.zeros(1, 3), torch.tensor([0]), labels, 1.0, 2, 200.0)
    assert torch.equal(solved, torch.ones(2, 3))


def test_literal_similarities_would_collapse_the_codes() -> None:
    """Why the soft similarity is mandatory: with S = -1 for all dissimilar pairs, equal codes for all are optimal."""
    n_classes, per_class, c = 40, 5, 12
    labels = torch.arange(n_classes).repeat_interleave(per_class)
    rows = torch.arange(len(labels))
    signs = torch.randint(0, 2, (len(labels), c), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    distinct = {}
    for name, r in (("soft", dissimilarity(labels, labels, n_classes)), ("literal", 1.0)):
        v = signs
        for _ in range(30):
            target = PairTarget.of(v, labels, r, n_classes)
            # The best real u for each class has a closed form: (G) u = c M_k.
            u = torch.linalg.lstsq(target.gram + 1e-3 * torch.eye(c), c * target.pull.T).solution.T.clamp(-1, 1)
            v = solve_codes(v, u[labels], rows, labels, r, n_classes, 0.0)
        distinct[name] = len({tuple(row.tolist()) for row in v})
    assert distinct["literal"] <= 2
    assert distinct["soft"] >= 20


def test_energy_counts_similar_and_dissimilar_pairs() -> None:
    # class 0 has 3 photos, class 1 has 1; r = 0.5: class 0 gives 3 + 1 * 0.25, class 1 gives 1 + 3 * 0.25
    target = PairTarget.of(torch.ones(4, 2), torch.tensor([0, 0, 0, 1]), 0.5, 2)
    assert target.energy.tolist() == [3.25, 1.75]
    assert math.isclose(float(target.gram[0, 0]), 4.0)
