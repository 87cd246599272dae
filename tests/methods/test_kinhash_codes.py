"""KinHash: what the code of a photo promises, against loops and all codes there are."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from milvus_fghash.core.codes import pack
from milvus_fghash.evaluation.metrics import distance_histogram, mean_average_precision
from milvus_fghash.methods import kinhash
from milvus_fghash.methods.class_codes import draw_codes
from tests.helpers.small_method import BITS


def all_codes(n_bits: int) -> list[tuple[float, ...]]:
    return list(itertools.product((-1.0, 1.0), repeat=n_bits))


def test_worked_by_hand() -> None:
    codes = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]])
    logits = torch.tensor([[math.log(4.0), math.log(2.0), math.log(2.0)]])
    # Posteriors 1/2, 1/4, 1/4 at T = 1. At T = 1/2 their squares, 16 : 4 : 4.
    odds, sharper = torch.tensor([[3.0, 1.0, 1 / 3]]), torch.tensor([[20 / 4, 16 / 8, 4 / 20]])
    before = torch.tensor([[2.0, 1 / 2, 1 / 2]])  # on in two classes of three, in one, in one
    torch.testing.assert_close(kinhash.bit_log_odds(logits, codes, 1.0), (odds / before).log())
    torch.testing.assert_close(kinhash.bit_log_odds(logits, codes, 0.5), (sharper / before).log())


def test_a_photo_that_says_nothing_leaves_every_bit_open() -> None:
    codes = draw_codes("bernoulli", 7, BITS, 0)
    torch.testing.assert_close(kinhash.bit_log_odds(torch.ones(1, 7), codes, 0.5), torch.zeros(1, BITS))


def test_a_bit_that_all_classes_share_is_theirs() -> None:
    codes = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]])
    logits = kinhash.bit_log_odds(torch.tensor([[0.1, 0.0]]), codes, 1.0)
    assert logits.sign().tolist() == [[1, 1, -1]]


@pytest.mark.parametrize("seed", range(20))
def test_no_other_code_agrees_in_more_bits_by_expectation(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    half, logits = draw_codes("bernoulli", 4, 8, seed), 3 * torch.randn(4, 8, generator=random)
    codes = torch.cat([half, -half])  # every bit is on in half the classes
    chosen = kinhash.bit_log_odds(logits, codes, 0.8)
    for photo in range(4):
        weights = [math.exp(float(logit) / 0.8) for logit in logits[photo]]

        def agreement(code: tuple[float, ...], weights: list[float] = weights) -> float:
            """Expected number of bits that ``code`` shares with the code of the right class."""
            shared: list[int] = [sum(bit == own for bit, own in zip(code, kin, strict=True)) for kin in codes.tolist()]
            return sum(weight * bits for weight, bits in zip(weights, shared, strict=True)) / sum(weights)

        best = max(all_codes(8), key=agreement)
        assert tuple(chosen[photo].sign().tolist()) == best


def test_between_two_classes_the_bits_that_both_share_are_kept() -> None:
    codes = draw_codes("far-apart", 5, BITS, 0)
    logits = torch.full((1, 5), -50.0)
    logits[0, 1], logits[0, 3] = 1.0, 0.9
    logits = kinhash.bit_log_odds(logits, codes, 1.0)[0]
    shared = codes[1] == codes[3]
    assert 0 < int(shared.sum()) < BITS
    assert torch.equal(logits[shared].sign(), codes[1][shared])
    on = (codes > 0).sum(dim=0)
    torch.testing.assert_close((logits + (on / (5 - on)).log())[~shared], 0.1 * codes[1][~shared])
    assert bool((logits[shared].abs() > 40).all())


def test_bit_scores_is_the_log_odds_of_a_photo_in_doubt() -> None:
    random = torch.Generator().manual_seed(0)
    codes, logits = draw_codes("bernoulli", 7, BITS, 0), 3 * torch.randn(5, 7, generator=random)
    torch.testing.assert_close(kinhash.unbounded_log_odds(logits, codes, 0.8), kinhash.bit_log_odds(logits, codes, 0.8))


def test_bit_scores_of_a_sure_photo_still_grows_and_has_gradients() -> None:
    """Where logits are level: logits of 200 and 400 for one class of five, worked by hand."""
    codes = draw_codes("far-apart", 5, BITS, 0)
    logits = (200 * torch.tensor([[1.0], [2.0]]) * torch.eye(5)[2]).requires_grad_()
    utility = kinhash.code_utility(codes)
    for level in (kinhash.bit_margins(logits, utility, 1.0), kinhash.bit_log_odds(logits, codes, 1.0)):
        torch.testing.assert_close(level[0], level[1])
        assert float(torch.autograd.grad(level.abs().sum(), logits)[0].abs().max()) < 1e-6
    bit_scores = kinhash.unbounded_log_odds(logits, codes, 1.0)
    on = (codes > 0).sum(dim=0)
    # Of the class's side 1 / n is left, of the other side, whose classes are equally unlikely, exp(-logit)
    own = torch.where(codes[2] > 0, on, 5 - on)
    expected = codes[2] * (torch.tensor([[200.0], [400.0]]) - own.log())
    torch.testing.assert_close(bit_scores, expected)
    (gradient,) = torch.autograd.grad(bit_scores.sum(), logits)
    torch.testing.assert_close(gradient[:, 2], codes[2].sum().expand(2), rtol=1e-4, atol=0)


def test_nothing_speaks_for_a_bit_that_all_classes_share() -> None:
    codes = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0]])
    logits = torch.tensor([[90.0, 0.0]], requires_grad=True)
    bit_scores = kinhash.unbounded_log_odds(logits, codes, 1.0)
    torch.testing.assert_close(bit_scores, torch.tensor([[0.0, 90.0, 0.0]]))
    torch.testing.assert_close(torch.autograd.grad(bit_scores.sum(), logits)[0], torch.tensor([[1.0, -1.0]]))


def test_code_utility_is_average_precision_among_large_classes_and_agreement() -> None:
    """The precision is measured: a query of each code, classes of 1,000 photos that all have their class's code."""
    codes, size = draw_codes("bernoulli", 6, 4, 1), 1000
    possible = all_codes(4)
    gallery, of_gallery = pack(codes.repeat_interleave(size, dim=0).numpy()), torch.arange(6).repeat_interleave(size)
    expected = torch.empty(6, 16)
    for k in range(6):
        for q, code in enumerate(possible):
            query = pack(torch.tensor([code]).numpy())
            histogram = distance_histogram(query, torch.tensor([k]).numpy(), gallery, of_gallery.numpy(), 4)
            agreeing = sum(a == b for a, b in zip(code, codes[k].tolist(), strict=True)) / 4
            expected[k, q] = mean_average_precision(histogram) + agreeing
    expected -= expected.mean(dim=0)
    torch.testing.assert_close(kinhash.code_utility(codes), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("seed", range(10))
def test_the_best_of_all_codes_is_chosen_and_each_bit_says_by_how_much(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    codes, logits = draw_codes("bernoulli", 5, 6, seed), 3 * torch.randn(4, 5, generator=random)
    utility = kinhash.code_utility(codes)
    margins = kinhash.bit_margins(logits, utility, 0.8)
    for photo in range(4):
        weights = [math.exp(float(logit) / 0.8) for logit in logits[photo]]
        expected = {
            code: sum(weight * float(utility[k, q]) for k, weight in enumerate(weights)) / sum(weights)
            for q, code in enumerate(all_codes(6))
        }
        assert tuple(margins[photo].sign().tolist()) == max(expected, key=lambda code: expected[code])
        for bit in range(6):
            on = max(value for code, value in expected.items() if code[bit] > 0)
            off = max(value for code, value in expected.items() if code[bit] < 0)
            assert margins[photo, bit].item() == pytest.approx(on - off, abs=1e-5)


def test_a_draw_between_codes_is_decided_beforehand() -> None:
    """Two classes whose codes differ in every bit, equally likely: opposite codes are as good as each other.

    Rounding would decide, and both values of each bit could win by nothing.
    """
    codes = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]])
    utility = kinhash.code_utility(codes)
    assert float((utility - utility.flip(0).flip(1)).abs().max()) < 1e-4  # one class for the other, all bits turned
    margins = kinhash.bit_margins(torch.zeros(1, 2), utility, 1.0)
    assert float(margins.abs().min()) > 0
    assert int(utility.mean(dim=0).argmax()) == all_codes(4).index(tuple(margins[0].sign().tolist()))


@pytest.mark.parametrize(
    "codes",
    [draw_codes("hadamard", 4, 8, 0), draw_codes("balanced", 3, 8, 0), draw_codes("bernoulli", 2, 8, 0)],
    ids=["hadamard", "balanced", "bernoulli"],
)
def test_a_bit_that_all_classes_share_stays_theirs_where_all_codes_are_weighed(codes: torch.Tensor) -> None:
    assert bool((codes == codes[0]).all(dim=0).any())
    sure = 50 * torch.eye(len(codes))
    assert torch.equal(kinhash.bit_margins(sure, kinhash.code_utility(codes), 1.0).sign(), codes)
