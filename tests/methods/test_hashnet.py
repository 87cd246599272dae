"""The loss of HashNet against loops over pairs, written from the formula, and its continuation."""

import math

import pytest
import torch
from pydantic import ValidationError

from milvus_fghash.methods import hashnet
from tests.helpers.pair_loops import batch_of, second_step
from tests.helpers.small_method import BITS, made, round_of


@pytest.mark.parametrize(("alpha", "slope"), [(0.1, 0.1), (0.3, 0.3), ("10/c", 10 / BITS)])
def test_the_loss_is_the_weighted_sum_over_pairs(alpha: float | str, slope: float) -> None:
    _, terms, _, pairs = second_step(hashnet, slope=1.0, alpha=alpha)
    assert list(terms) == ["pairs"]
    count = {True: 1, False: 3}  # S_1 and S_0 of S = 4 pairs
    total = 0.0
    for u, other, similar in pairs:
        theta = slope * (u @ other).item()
        total += 4 / count[similar] * (math.log(1 + math.exp(theta)) - similar * theta)
    assert terms["pairs"].item() == pytest.approx(total / 4, rel=1e-5)


def test_tanh_is_taken_at_the_slope_of_the_round() -> None:
    method, step = made(hashnet, stages=2), batch_of((5, 0), seed=1)
    method.before_round(round_of(1, 2))
    method.loss(step)
    u = torch.tanh(math.sqrt(2) * method.head(step.features["anchor"])).detach()
    torch.testing.assert_close(method.bank.outputs[5], u[0])


def test_the_slope_grows_by_stages() -> None:
    method = made(hashnet, stages=4)
    slopes = []
    for number in range(8):
        method.before_round(round_of(number, 8))
        slopes.append(method.beta)
    assert slopes == pytest.approx([1, 1, *[math.sqrt(2)] * 2, *[math.sqrt(3)] * 2, 2, 2])


def test_more_stages_than_rounds_leave_some_out() -> None:
    method = made(hashnet, stages=9)
    method.before_round(round_of(1, 3))
    assert method.beta == 2


def test_outputs_are_those_of_the_head() -> None:
    method, photo = made(hashnet), torch.rand(1, 3, 2, 2)
    torch.testing.assert_close(method(photo), method.head(method.backbone(photo)))


def test_no_other_word_for_alpha() -> None:
    with pytest.raises(ValidationError):
        hashnet.Config(alpha="1/c")
