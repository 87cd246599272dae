"""The loss of DPSH against loops over pairs, written from the formula."""

import math

import pytest
import torch

from milvus_fghash.methods import dpsh
from milvus_fghash.methods.dpsh import negative_log_likelihood
from tests.helpers.pair_loops import Pair, second_step
from tests.helpers.small_method import BITS


def value(pair: Pair) -> float:
    u, other, similar = pair
    theta = (u @ other).item() / 2
    return math.log(1 + math.exp(theta)) - similar * theta


def test_the_likelihood_worked_by_hand() -> None:
    theta = torch.tensor([[0.0, math.log(3), math.log(3)]])
    # p = 1/2, 3/4, 3/4: -log(1/2) for a similar pair; -log(3/4), and -log(1/4) if it is dissimilar
    values = negative_log_likelihood(theta, torch.tensor([[True, True, False]]))
    assert values[0].tolist() == pytest.approx([math.log(2), math.log(4 / 3), math.log(4)])


def test_large_products_stay_finite() -> None:
    theta = torch.tensor([[1000.0, 1000.0, -1000.0, -1000.0]])
    values = negative_log_likelihood(theta, torch.tensor([[True, False, True, False]]))
    assert values.tolist() == [[0.0, 1000.0, 1000.0, 0.0]]


@pytest.mark.parametrize("balanced", [False, True])
def test_the_loss_is_the_mean_over_pairs(balanced: bool) -> None:
    _, terms, u, pairs = second_step(dpsh, balanced=balanced)
    assert list(terms) == ["pairs", "quantisation"]
    values = [value(pair) for pair in pairs]
    similar, dissimilar = values[2], values[0] + values[1] + values[3]
    expected = similar + dissimilar / 3 if balanced else (similar + dissimilar) / 4
    assert terms["pairs"].item() == pytest.approx(expected, rel=1e-5)
    off = sum((x - math.copysign(1, x)) ** 2 for x in u.flatten().tolist())
    assert terms["quantisation"].item() == pytest.approx(0.1 * off / (2 * BITS), rel=1e-5)


def test_the_gradient_flows_to_the_batch_alone() -> None:
    # d loss_ij / du_i = (sigmoid(theta) - s) v_j / 2, and v_j is a constant
    method, terms, u, pairs = second_step(dpsh)
    gradient = torch.zeros_like(u)
    for number, (x, other, similar) in enumerate(pairs):
        gradient[number // 2] += (torch.sigmoid(x @ other / 2) - float(similar)).detach() * other / 2 / 4
    (bias,) = torch.autograd.grad(terms["pairs"], method.head.bits.bias)
    torch.testing.assert_close(bias, gradient.sum(dim=0))


def test_an_eta_of_zero_leaves_the_quantisation_out() -> None:
    _, terms, _, _ = second_step(dpsh, eta=0.0)
    assert list(terms) == ["pairs"]
