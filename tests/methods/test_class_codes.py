"""Class codes: what each way of drawing them promises, and the dealing out against full recomputation."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from milvus_fghash.errors import DataError
from milvus_fghash.methods import class_codes
from milvus_fghash.methods.base import Sizes, generator
from milvus_fghash.methods.class_codes import (
    ClassCodes,
    Codebook,
    Placement,
    balanced_codes,
    bernoulli_codes,
    class_means,
    class_similarity,
    draw_codes,
    far_apart_codes,
    hadamard_codes,
    place_by_similarity,
)
from milvus_fghash.methods.heads import Standardise
from milvus_fghash.recipes.schema import HeadChoice
from tests.helpers.small_method import LABELS, Flat, N, minimal_distance

pytestmark = pytest.mark.full


def distance(first: Tensor, second: Tensor) -> int:
    return sum(int(a != b) for a, b in zip(first.tolist(), second.tolist(), strict=True))


def objective(codes: Tensor, similarity: Tensor) -> float:
    """sum_ij S_ij <b_i, b_j> over all pairs of two classes, one after the other."""
    pairs = itertools.permutations(range(len(codes)), 2)
    return sum(float(similarity[i, j]) * float(codes[i] @ codes[j]) for i, j in pairs)


def drawn_similarity(n: int, seed: int) -> Tensor:
    half = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return half + half.T


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(get_args(Codebook)), st.integers(8, 33), st.integers(2, 60), st.integers(0, 1000))
def test_all_codes_are_signs_and_differ(kind: Codebook, n_bits: int, n_classes: int, seed: int) -> None:
    codes = draw_codes(kind, n_classes, n_bits, seed)
    assert codes.dtype == torch.float32
    assert codes.shape == (n_classes, n_bits)
    assert set(codes.flatten().tolist()) <= {1.0, -1.0}
    assert len({tuple(row) for row in codes.tolist()}) == n_classes
    assert torch.equal(codes, draw_codes(kind, n_classes, n_bits, seed))


@pytest.mark.parametrize("kind", ["balanced", "bernoulli", "far-apart"])
def test_another_seed_draws_other_codes(kind: Codebook) -> None:
    assert not torch.equal(draw_codes(kind, 10, 24, 0), draw_codes(kind, 10, 24, 1))


def test_minimal_distance_is_that_of_the_nearest_pair() -> None:
    codes = bernoulli_codes(9, 10, 3)
    assert minimal_distance(codes) == min(distance(*pair) for pair in itertools.combinations(codes, 2))
    assert minimal_distance(codes[:1]) == 10


def test_hadamard_codes_worked_by_hand() -> None:
    rows = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
    assert hadamard_codes(6, 4).tolist() == [*rows, [-1, -1, -1, -1], [-1, 1, -1, 1]]
    assert {distance(*pair) for pair in itertools.combinations(hadamard_codes(32, 16), 2)} == {8, 16}


def test_hadamard_codes_are_taken_where_there_are_enough() -> None:
    assert torch.equal(draw_codes("hadamard", 32, 16, 0), hadamard_codes(32, 16))
    for n_classes, n_bits in ((33, 16), (10, 12)):
        with pytest.raises(DataError, match="power of two"):
            hadamard_codes(n_classes, n_bits)
        assert torch.equal(draw_codes("hadamard", n_classes, n_bits, 0), balanced_codes(n_classes, n_bits, 0))


def test_balanced_codes_are_half_ones_and_a_quarter_apart() -> None:
    codes = balanced_codes(100, 24, 0)
    assert (codes > 0).sum(dim=1).tolist() == [12] * 100
    assert minimal_distance(codes) == 8  # always even, and more than 6
    assert (balanced_codes(5, 9, 0) > 0).sum(dim=1).tolist() == [4] * 5


def test_balanced_codes_fall_short_of_the_distance_before_they_repeat() -> None:
    assert minimal_distance(balanced_codes(100, 16, 0)) == 4  # not more than a quarter, but the farthest drawn
    assert len(torch.unique(balanced_codes(70, 8, 0, tries=5), dim=0)) == 70  # all there are: 8 over 4
    with pytest.raises(DataError, match=r"70 such codes.*71 classes"):
        balanced_codes(71, 8, 0)


def test_bernoulli_codes_are_fair_and_take_every_code_if_need_be() -> None:
    codes = bernoulli_codes(500, 64, 0)
    assert codes.mean().abs() < 0.02
    assert (codes[1:, 0] != codes[:-1, 0]).sum() > 200  # in no order
    assert len(torch.unique(bernoulli_codes(256, 8, 0), dim=0)) == 256
    with pytest.raises(DataError, match=r"8 bits give 256.*257 classes"):
        bernoulli_codes(257, 8, 0)


@pytest.mark.parametrize(
    ("n_classes", "distances"), [(100, (3, 8, 11, 18)), (200, (2, 7, 10, 17)), (555, (2, 6, 9, 15))]
)
def test_far_apart_codes_reach_the_known_distances(n_classes: int, distances: tuple[int, ...]) -> None:
    for n_bits, expected in zip((12, 24, 32, 48), distances, strict=True):
        assert minimal_distance(far_apart_codes(n_classes, n_bits, 0)) == expected


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 8), st.integers(0, 1000))
def test_no_other_code_is_farther_than_the_next_one(n_bits: int, seed: int) -> None:
    every = [torch.tensor(signs) for signs in itertools.product((-1.0, 1.0), repeat=n_bits)]
    codes = far_apart_codes(min(6, 2**n_bits), n_bits, seed)
    for k in range(1, len(codes)):
        farthest = max(min(distance(code, taken) for taken in codes[:k]) for code in every)
        assert min(distance(codes[k], taken) for taken in codes[:k]) == farthest


def test_far_apart_codes_go_on_to_the_last_one() -> None:
    assert len(torch.unique(far_apart_codes(256, 8, 0), dim=0)) == 256
    assert len(torch.unique(far_apart_codes(50, 20, 0, candidates=10), dim=0)) == 50
    with pytest.raises(DataError, match=r"8 bits give 256.*257 classes"):
        far_apart_codes(257, 8, 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_gain_of_an_exchange_is_the_difference_of_the_objective(seed: int) -> None:
    codes, similarity = bernoulli_codes(7, 6, seed).double(), drawn_similarity(7, seed)
    s = similarity.numpy().copy()
    np.fill_diagonal(s, 0)
    random = np.random.default_rng(seed)
    placement = Placement(codes.numpy(), s, random)
    for i in [*range(7), *range(7)]:
        before = objective(codes[placement.order], similarity)
        assert placement.objective() == pytest.approx(before)
        gains = placement.gains(i)
        for j in range(7):
            order = placement.order.copy()
            order[[i, j]] = order[[j, i]]
            assert 2 * gains[j] == pytest.approx(objective(codes[order], similarity) - before)
        placement.swap(i, int(random.integers(7)))  # also a bad one: the products must follow


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_placed_codes_are_the_same_codes_and_no_exchange_helps(seed: int) -> None:
    codes, similarity = bernoulli_codes(8, 6, seed), drawn_similarity(8, seed)
    placed = place_by_similarity(codes, similarity, seed, starts=1)
    assert sorted(placed.tolist()) == sorted(codes.tolist())
    reached = objective(placed, similarity)
    for i, j in itertools.combinations(range(8), 2):
        order = list(range(8))
        order[i], order[j] = j, i
        assert objective(placed[order], similarity) <= reached + 1e-6


def test_more_starts_never_give_less() -> None:
    codes, similarity = far_apart_codes(20, 12, 0), drawn_similarity(20, 0)
    reached = [objective(place_by_similarity(codes, similarity, 0, starts), similarity) for starts in (1, 2, 4, 8)]
    assert reached == sorted(reached)
    assert reached[-1] > reached[0]


def test_placing_finds_the_best_of_all_orders_of_six_classes() -> None:
    for seed in range(5):
        codes, similarity = bernoulli_codes(6, 8, seed), drawn_similarity(6, seed)
        best = max(objective(codes[list(order)], similarity) for order in itertools.permutations(range(6)))
        assert objective(place_by_similarity(codes, similarity, seed), similarity) == pytest.approx(best)


def test_placing_finds_the_groups_that_were_planted() -> None:
    # Four groups of three codes: half the bits apart, and within a group two bits.
    codes = hadamard_codes(4, 16).repeat_interleave(3, dim=0)
    codes[range(12), [0, 1, 2] * 4] *= -1
    group = torch.arange(12) // 3
    alike = (group[:, None] == group).float()
    shuffled = codes[torch.randperm(12, generator=torch.Generator().manual_seed(1))]
    placed = place_by_similarity(shuffled, alike, 0)
    assert torch.equal((placed @ placed.T == 12) | torch.eye(12, dtype=torch.bool), alike == 1)
    assert objective(shuffled, alike) < objective(placed, alike) == 4 * 6 * 12


def test_placing_reads_both_halves_of_the_similarity_and_not_its_diagonal() -> None:
    codes, similarity = far_apart_codes(10, 12, 0), drawn_similarity(10, 0)
    placed = place_by_similarity(codes, similarity, 0)
    for same in (similarity.triu() * 2, similarity + torch.diag(torch.arange(10.0) * 50)):
        assert torch.equal(place_by_similarity(codes, same, 0), placed)


def test_many_classes_are_placed_from_one_start_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, similarity = far_apart_codes(60, 24, 0), class_similarity(torch.randn(60, 9, generator=generator(1)))
    at_length = objective(place_by_similarity(codes, similarity, 0), similarity)
    monkeypatch.setattr(class_codes, "MANY_CLASSES", 59)
    told: list[tuple[int, int]] = []
    placed = place_by_similarity(codes, similarity, 0, progress=lambda done, total, what: told.append((done, total)))
    assert sorted(placed.tolist()) == sorted(codes.tolist())
    assert objective(placed, similarity) > 0.97 * at_length
    assert told[-1] == (720, 720)  # 12 visits of 60 classes
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    monkeypatch.setattr(class_codes, "MOST_WORK", 30 * 60 * 24)  # 30 visits
    told.clear()
    hasty = place_by_similarity(codes, similarity, 0, progress=lambda done, total, what: told.append((done, total)))
    assert told == [(30, 30)]
    assert objective(codes, similarity) < objective(hasty, similarity) < objective(placed, similarity)


def test_placing_ends_where_all_classes_are_alike() -> None:
    codes = far_apart_codes(10, 12, 0)
    assert sorted(place_by_similarity(codes, torch.full((10, 10), 0.1), 0).tolist()) == sorted(codes.tolist())


def test_class_means_worked_by_hand() -> None:
    features = torch.tensor([[1.0, 0.0], [5.0, 2.0], [3.0, 4.0]])
    means = class_means(features, torch.tensor([0, 2, 0]), 4)
    assert means.tolist() == [[2.0, 2.0], [0.0, 0.0], [5.0, 2.0], [0.0, 0.0]]


def test_class_similarity_is_the_cosine_of_standardised_means() -> None:
    means = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 100.0, 0.0]) + 7
    scaled = []
    for k in range(5):
        column = [(means[k, f] - means[:, f].mean()) / means[:, f].std(correction=0) for f in range(2)]
        scaled.append([float(value) for value in column])
    for i, j in itertools.product(range(5), repeat=2):
        cosine = sum(a * b for a, b in zip(scaled[i], scaled[j], strict=True))
        cosine /= math.hypot(*scaled[i]) * math.hypot(*scaled[j])
        assert class_similarity(means)[i, j].item() == pytest.approx(cosine, abs=1e-5)


def test_the_learned_code_of_a_photo_is_that_of_its_class() -> None:
    class Silent(ClassCodes):
        def loss(self, batch: object) -> dict[str, Tensor]:
            return {}

    codes = bernoulli_codes(3, 12, 0)
    method = Silent(Flat(), HeadChoice(standardise=True), Sizes(12, 3, N), codes)
    learned = method.learned_codes(LABELS)
    assert [row.tolist() for row in learned] == [codes[label].tolist() for label in LABELS]
    assert method.learned_source == "class codes"
    assert torch.equal(method.state_dict()["codes"], codes)
    assert method.wants_features
    method.fit(torch.arange(12.0).view(2, 6), LABELS[:2])
    first = method.head[0]
    assert isinstance(first, Standardise)
    assert first.mean.tolist() == [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
