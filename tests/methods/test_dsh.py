"""The loss of DSH against loops over pairs, written from the formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from milvus_fghash.methods import dsh
from milvus_fghash.methods.dsh import contrast
from tests.helpers.pair_loops import Pair, second_step
from tests.helpers.small_method import BITS, C


def value(pair: Pair, margin: float) -> torch.Tensor:
    u, other, similar = pair
    apart = (u - other).square().sum()
    return apart / 2 if similar else torch.relu(margin - apart) / 2


def test_contrast_worked_by_hand() -> None:
    u, others = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 2.0], [1.0, 1.0], [4.0, 0.0]])
    # squared distances 4, 1, 9; margin 5
    assert contrast(u, others, torch.tensor([[True, True, True]]), 5.0).tolist() == [[2.0, 0.5, 4.5]]
    assert contrast(u, others, torch.tensor([[False, False, False]]), 5.0).tolist() == [[0.5, 2.0, 0.0]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_contrast_is_that_of_each_pair(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    u, others = (torch.randn(n, 5, generator=random, dtype=torch.float64) for n in (3, 4))
    similar = torch.rand(3, 4, generator=random) < 0.5
    expected = [[value((u[i], others[j], bool(similar[i, j])), 10.0).item() for j in range(4)] for i in range(3)]
    torch.testing.assert_close(contrast(u, others, similar, 10.0).tolist(), expected)


def test_equal_outputs_are_not_apart() -> None:
    u = torch.randn(50, 48, generator=torch.Generator().manual_seed(0))
    assert contrast(u, u, torch.ones(50, 50, dtype=torch.bool), 96.0).min() == 0


def test_the_loss_is_the_mean_over_pairs() -> None:
    _, terms, u, pairs = second_step(dsh)
    assert list(terms) == ["pairs", "quantisation"]
    expected = sum(value(pair, 2 * BITS).item() for pair in pairs) / 4
    assert terms["pairs"].item() == pytest.approx(expected, rel=1e-5)
    off = sum(abs(abs(x) - 1) for x in u.flatten().tolist())
    assert terms["quantisation"].item() == pytest.approx(0.01 * off / (2 * BITS), rel=1e-5)


def test_fewer_classes_scale_every_term_down_if_asked_for() -> None:
    plain, scaled = (second_step(dsh, scale=scale)[1] for scale in ("none", "classes"))
    for term, value in plain.items():
        assert scaled[term].item() == pytest.approx(C / 100 * value.item())


def test_the_gradient_flows_to_the_batch_alone() -> None:
    method, terms, _, pairs = second_step(dsh)
    weight = method.head.bits.weight
    mean = torch.stack([value(pair, 2 * BITS) for pair in pairs]).mean()
    (expected,) = torch.autograd.grad(mean, weight, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(terms["pairs"], weight)[0], expected)


def test_the_margin_is_per_bit() -> None:
    _, terms, _, pairs = second_step(dsh, margin=3.0)
    assert terms["pairs"].item() == pytest.approx(sum(value(pair, 3 * BITS).item() for pair in pairs) / 4, rel=1e-5)


def test_a_weight_of_zero_leaves_the_quantisation_out() -> None:
    _, terms, _, _ = second_step(dsh, weight=0.0)
    assert list(terms) == ["pairs"]
