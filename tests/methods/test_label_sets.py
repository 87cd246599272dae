"""Photos with several labels: what the losses of the methods see, against loops over pairs of photos."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from milvus_fghash.core.labels import class_names, join_labels, number_labels, share_label
from milvus_fghash.methods import csq, dpsh, posterior_code, posterior_itq
from milvus_fghash.methods.asymmetric import PairTarget, dissimilarity, solve_codes
from milvus_fghash.methods.base import Batch, Round, Sizes, generator
from milvus_fghash.methods.label_sets import similar, sums_of_similar
from milvus_fghash.recipes.schema import HeadChoice
from milvus_fghash.training.draws import draw_positives
from tests.helpers.small_method import WIDTH, Flat

PHOTOS = ["|a|b|", "|b|c|", "|c|", "|a|", "|a|b|", "|d|"]
one_set = st.sets(st.sampled_from("abcd"), min_size=1, max_size=3).map(join_labels)
several = st.lists(one_set, min_size=3, max_size=9).filter(
    lambda labels: any(not share_label(one, other) for one, other in product(labels, labels))
)


def numbered(labels: list[str]) -> tuple[Tensor, Tensor]:
    numbers, sets = number_labels(labels, class_names(labels))
    assert sets is not None
    return torch.from_numpy(numbers), torch.from_numpy(sets)


def soft_similarity(rows: Tensor, labels: list[str]) -> Tensor:
    """S of the photos of a round, m x N, as `asymmetric` defines it, pair by pair."""
    pairs = [[float(share_label(labels[i], other)) for other in labels] for i in rows.tolist()]
    same = torch.tensor(pairs, dtype=torch.float64)
    r = same.sum() / (1 - same).sum()
    return same * (1 + r) - r


@settings(max_examples=40, deadline=None)
@given(several, st.integers(0, 1000))
def test_similar_pairs_and_sums_over_them(labels: list[str], seed: int) -> None:
    numbers, sets = numbered(labels)
    expected = torch.tensor([[share_label(one, other) for other in labels] for one in labels])
    assert torch.equal(similar(numbers, numbers, sets), expected)
    values = torch.randn(len(labels), 2, generator=generator(seed), dtype=torch.float64)
    sums = sums_of_similar(values, numbers, len(sets), sets)
    torch.testing.assert_close(sums[numbers], expected.double() @ values)


@settings(max_examples=40, deadline=None)
@given(several, st.integers(0, 1000))
def test_the_loss_and_the_code_step_of_adsh(labels: list[str], seed: int) -> None:
    numbers, sets = numbered(labels)
    random, c, gamma = generator(seed), 3, 2.0
    signs = torch.randint(0, 2, (len(labels), c), generator=random).double() * 2 - 1
    rows = torch.arange(len(labels))
    u = torch.randn(len(rows), c, generator=random, dtype=torch.float64).tanh()
    s = soft_similarity(rows, labels)
    r = dissimilarity(numbers[rows], numbers, len(sets), sets)
    target = PairTarget.of(signs, numbers, r, len(sets), sets)
    by_pairs = (u @ signs.T - c * s).square().sum(dim=1)
    torch.testing.assert_close(target.loss(u, numbers[rows]), by_pairs)

    solved = solve_codes(signs, u, rows, numbers, r, len(sets), gamma, sets)
    expected = signs.clone()
    for k, j in product(range(c), range(len(labels))):  # each bit at the better of both values, column by column
        costs = {}
        for value in (1.0, -1.0):
            tried = expected.clone()
            tried[j, k] = value
            costs[value] = (u @ tried.T - c * s).square().sum() + gamma * (tried[rows] - u).square().sum()
        expected[j, k] = 1.0 if costs[1.0] <= costs[-1.0] + 1e-9 else -1.0
    assert torch.equal(solved, expected)


def made(module: Any, **options: Any) -> tuple[Any, Tensor]:
    """A method for `PHOTOS` before its first round of all of them, and the labels."""
    numbers, _ = numbered(PHOTOS)
    torch.manual_seed(0)
    sizes = Sizes.of(12, PHOTOS, class_names(PHOTOS))
    method = module.Method(Flat(), HeadChoice(), sizes, module.Config(**options))
    method.before_round(Round(0, 1, torch.arange(len(PHOTOS)), numbers, lambda: torch.zeros(0)))
    return method, numbers


def test_the_pairs_of_the_pairwise_methods() -> None:
    method, numbers = made(dpsh)
    rows = torch.tensor([4, 2, 5])
    pairs = method.pairs(Batch(rows, numbers[rows], {}), torch.ones(3, 12))
    assert pairs.similar.tolist() == [[share_label(PHOTOS[row], other) for other in PHOTOS] for row in rows.tolist()]


def test_the_centre_of_several_labels_is_the_majority_of_their_centres() -> None:
    centres = torch.tensor([[1.0, 1.0, -1.0, 1.0], [1.0, -1.0, -1.0, 1.0], [1.0, -1.0, 1.0, -1.0]])
    sets = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [True, True, False]])
    voted = csq.majority(centres, sets, seed=3)
    assert voted[0].tolist() == [1, -1, -1, 1]
    assert voted[1].tolist() == centres[0].tolist()
    assert voted[2][[0, 2, 3]].tolist() == [1, -1, 1]
    assert set(voted.flatten().tolist()) == {1, -1}
    even = torch.stack([csq.majority(centres, sets[2:3], seed)[0, 1] for seed in range(40)])
    assert {-1.0, 1.0} == set(even.tolist())  # drawn
    assert torch.equal(voted, csq.majority(centres, sets, seed=3))  # but once


def test_csq_pulls_each_photo_to_the_centre_of_its_labels() -> None:
    method, numbers = made(csq)
    rows = torch.tensor([0, 5])
    features = torch.randn(2, WIDTH, generator=generator(0))
    loss = method.loss(Batch(rows, numbers[rows], {"anchor": features}))["centres"]
    logits = method.head(features)
    assert method.codes.shape == (5, 12)  # the distinct label sets
    torch.testing.assert_close(loss, csq.central_similarity(logits, method.codes[numbers[rows]]))
    assert torch.equal(method.learned_codes(numbers)[0], method.learned_codes(numbers)[4])  # both "|a|b|"


@settings(max_examples=60, deadline=None)
@given(st.lists(one_set, min_size=2, max_size=12), st.integers(0, 1000))
def test_a_positive_shares_a_label(labels: list[str], seed: int) -> None:
    numbers, sets = numbered(labels)
    rows = torch.randperm(len(labels), generator=generator(seed))[: max(1, len(labels) // 2)]
    drawn = draw_positives(rows, numbers, generator(seed, 1), sets)
    for row, other in zip(rows.tolist(), drawn.tolist(), strict=True):
        assert share_label(labels[row], labels[other])
        if not any(share_label(labels[row], label) for at, label in enumerate(labels) if at != row):
            assert other == row
        if other == row:  # only if one of its labels is its own alone
            counts = [sum(name in label.split("|") for label in labels) for name in labels[row].strip("|").split("|")]
            assert 1 in counts


def test_positives_of_several_labels_are_drawn_from_each() -> None:
    numbers, sets = numbered(["|a|b|", "|a|", "|b|", "|b|", "|c|"])
    drawn = [int(draw_positives(torch.arange(5), numbers, generator(seed), sets)[0]) for seed in range(800)]
    counts = [drawn.count(row) for row in range(5)]
    assert counts == pytest.approx([0, 400, 200, 200, 0], abs=60)  # first one of its two labels, then a photo with it


def test_posterior_itq_wants_an_equal_share_of_each_label_and_a_cluster_of_unlabelled_photos() -> None:
    sizes = Sizes.of(12, [*PHOTOS, "", ""], class_names(PHOTOS))  # label sets a, ab, bc, c, d
    method = posterior_itq.Method(Flat(), HeadChoice(), sizes, posterior_code.Config())
    assert method.n_clusters == 2
    wanted = method.wanted(torch.tensor([[1, 1], [4, 4], [5, 6]]))
    assert wanted[0].tolist() == [[0.5, 0.5, 0, 0, 0, 0]] * 2
    assert wanted[1].tolist() == [[0, 0, 0, 1, 0, 0]] * 2
    assert wanted[2].tolist() == [[0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]]
