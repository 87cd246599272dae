"""Metrics against numbers worked by hand, all orders of ties, and a plain sort."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from milvus_fghash.core.codes import Codes, pack
from milvus_fghash.errors import CodeError, DataError
from milvus_fghash.evaluation import metrics
from milvus_fghash.evaluation.metrics import Histogram

Group = tuple[int, int]  # codes at one distance, relevant ones among them


def histogram_of(*groups: Group) -> Histogram:
    """One query; ``groups`` by increasing distance."""
    return Histogram(np.array([[n for n, _ in groups]]), np.array([[r for _, r in groups]]))


def random_problem(
    seed: int, n_queries: int, n_gallery: int, n_bits: int, n_classes: int
) -> tuple[Codes, NDArray[np.int64], Codes, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return (
        pack(rng.standard_normal((n_queries, n_bits))),
        rng.integers(0, n_classes, n_queries),
        pack(rng.standard_normal((n_gallery, n_bits))),
        rng.integers(0, n_classes, n_gallery),
    )


def average_precision(ranking: tuple[bool, ...]) -> Fraction:
    """Of one order, in exact numbers, from the definition."""
    precisions = [Fraction(sum(ranking[: k + 1]), k + 1) for k, hit in enumerate(ranking) if hit]
    return sum(precisions, Fraction()) / len(precisions) if precisions else Fraction()


def orders(groups: tuple[Group, ...]) -> list[tuple[bool, ...]]:
    """Every order of the gallery that distance allows."""
    within = [itertools.permutations([True] * r + [False] * (n - r)) for n, r in groups]
    return [tuple(itertools.chain(*choice)) for choice in itertools.product(*within)]


def mean(values: list[Fraction]) -> float:
    return float(sum(values, Fraction()) / len(values))


groups_of_ties = st.lists(
    st.integers(0, 3).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1, max_size=3
).filter(lambda groups: any(n for n, _ in groups))


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        # relevant at places 1 and 3: (1/1 + 2/3) / 2
        (((1, 1), (1, 0), (1, 1)), 5 / 6),
        # place 1 or 2: (1 + 1/2) / 2
        (((2, 1),), 3 / 4),
        # behind one miss, two of three: places {2,3} (1/2+2/3)/2, {2,4} (1/2+2/4)/2, {3,4} (1/3+2/4)/2; their mean
        (((1, 0), (3, 2)), (7 / 12 + 1 / 2 + 5 / 12) / 3),
        # the only relevant code stands last of three
        (((2, 0), (1, 1)), 1 / 3),
        # nothing relevant
        (((2, 0), (1, 0)), 0.0),
        # everything relevant
        (((2, 2), (3, 3)), 1.0),
    ],
)
def test_average_precision_worked_by_hand(groups: tuple[Group, ...], expected: float) -> None:
    assert metrics.mean_average_precision(histogram_of(*groups)) == pytest.approx(expected, abs=1e-12)


@given(groups_of_ties)
@settings(deadline=None, max_examples=150)
def test_figures_are_the_mean_over_all_orders_of_ties(groups: list[Group]) -> None:
    histogram, rankings = histogram_of(*groups), orders(tuple(groups))
    assert metrics.mean_average_precision(histogram) == pytest.approx(
        mean([average_precision(ranking) for ranking in rankings]), abs=1e-12
    )
    n_relevant = sum(r for _, r in groups)
    for k in range(1, len(rankings[0]) + 3):  # and beyond the end of the gallery
        hits = mean([Fraction(sum(ranking[:k])) for ranking in rankings])
        assert metrics.precision_at(histogram, k) == pytest.approx(hits / k, abs=1e-12)
        assert metrics.recall_at(histogram, k) == pytest.approx(hits / n_relevant if n_relevant else 0, abs=1e-12)
        cut = mean([average_precision(ranking[:k]) for ranking in rankings])
        assert metrics.mean_average_precision_at(histogram, k) == pytest.approx(cut, abs=1e-12)


def test_the_harmonic_form_is_the_plain_sum() -> None:
    rng = np.random.default_rng(3)
    n = rng.integers(0, 300, (5, 20))
    r = rng.integers(0, n + 1)
    expected = []
    for counts, hits in zip(n.tolist(), r.tolist(), strict=True):
        before, found, total = 0, 0, Fraction()
        for size, relevant in zip(counts, hits, strict=True):
            slope = Fraction(relevant - 1, size - 1) if size > 1 else Fraction()
            for k in range(1, size + 1):
                total += Fraction(relevant, size) * (found + 1 + (k - 1) * slope) / (before + k)
            before, found = before + size, found + relevant
        expected.append(float(total / found))
    assert metrics.average_precisions(Histogram(n, r)) == pytest.approx(expected, abs=1e-12)


def test_rounding_stays_small_far_down_a_long_gallery() -> None:
    # two relevant codes tie at the end of a million: places 999,999 and 1,000,000 -> (1/999,999 + 2/1,000,000) / 2
    expected = (1 / 999_999 + 2 / 1_000_000) / 2
    assert metrics.mean_average_precision(histogram_of((999_998, 0), (2, 2))) == pytest.approx(expected, abs=1e-8)


def test_the_histogram_counts_each_pair_once() -> None:
    queries = np.array([[0b11110000]], np.uint8)
    gallery = np.array([[0b11110000], [0b11110001], [0b01110000], [0b00001111]], np.uint8)
    histogram = metrics.distance_histogram(queries, np.array([7]), gallery, np.array([7, 7, 8, 7]), 8)
    assert histogram.counts.tolist() == [[1, 2, 0, 0, 0, 0, 0, 0, 1]]
    assert histogram.hits.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0, 1]]


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(1, n_queries=301, n_gallery=1503, n_bits=12, n_classes=9)
    whole = metrics.distance_histogram(*problem, 12)
    whole_sorted = metrics.sorted_mean_average_precision(*problem, 12)
    for pairs in (1, 1503 * 7, 1503 * 301 - 1):  # a query at a time, 7 at a time, one block and a rest
        monkeypatch.setattr(metrics, "PAIRS_PER_BLOCK", pairs)
        parts = metrics.distance_histogram(*problem, 12)
        assert (parts.counts == whole.counts).all()
        assert (parts.hits == whole.hits).all()
        assert metrics.sorted_mean_average_precision(*problem, 12) == pytest.approx(whole_sorted, abs=1e-12)


def test_the_exact_value_is_the_mean_over_shuffled_galleries() -> None:
    queries, query_labels, gallery, gallery_labels = random_problem(2, 20, 200, n_bits=12, n_classes=5)
    exact = metrics.mean_average_precision(
        metrics.distance_histogram(queries, query_labels, gallery, gallery_labels, 12)
    )
    rng = np.random.default_rng(4)
    shuffled = []
    for _ in range(400):
        order = rng.permutation(200)
        shuffled.append(
            metrics.sorted_mean_average_precision(queries, query_labels, gallery[order], gallery_labels[order], 12)
        )
    standard_error = np.std(shuffled, ddof=1) / np.sqrt(len(shuffled))
    assert 0 < standard_error < 0.002
    assert abs(np.mean(shuffled) - exact) < 3 * standard_error


def test_sorted_and_exact_agree_without_ties() -> None:
    # one query of zeros; the codes have 0, 1, 2 .. 16 ones, so no two distances are equal
    gallery = np.packbits(np.tri(17, 16, -1, dtype=np.uint8), axis=1)
    labels = np.random.default_rng(5).integers(0, 2, 17)
    labels[-1] = 0  # the last place is relevant: dropping it would show
    order = np.random.default_rng(6).permutation(17)
    problem = (np.zeros((1, 2), np.uint8), np.array([0]), gallery[order], labels[order])
    exact = metrics.mean_average_precision(metrics.distance_histogram(*problem, 16))
    assert metrics.sorted_mean_average_precision(*problem, 16) == pytest.approx(exact, abs=1e-12)
    assert exact == pytest.approx(float(average_precision(tuple((labels == 0).tolist()))), abs=1e-12)


def test_the_sorted_form_keeps_the_stored_order_of_ties() -> None:
    query = np.zeros((1, 1), np.uint8)
    for labels, expected in (([1, 0], 1.0), ([0, 1], 0.5)):
        assert (
            metrics.sorted_mean_average_precision(query, np.array([1]), query[[0, 0]], np.array(labels), 8) == expected
        )
    queries, query_labels, gallery, gallery_labels = random_problem(8, 3, 700, n_bits=8, n_classes=4)
    expected_precisions = []
    for code, label in zip(queries[:, 0].tolist(), query_labels, strict=True):
        by_distance = sorted(range(700), key=lambda row: (code ^ int(gallery[row, 0])).bit_count())  # stable
        expected_precisions.append(average_precision(tuple(bool(gallery_labels[row] == label) for row in by_distance)))
    value = metrics.sorted_mean_average_precision(queries, query_labels, gallery, gallery_labels, 8)
    assert value == pytest.approx(mean(expected_precisions), abs=1e-12)


def test_random_codes_score_as_chance() -> None:
    problem = random_problem(7, n_queries=100, n_gallery=3000, n_bits=48, n_classes=10)
    histogram = metrics.distance_histogram(*problem, 48)
    assert metrics.mean_average_precision(histogram) == pytest.approx(0.1, abs=0.01)
    assert metrics.precision_at(histogram, 100) == pytest.approx(0.1, abs=0.02)


def test_a_query_with_nothing_relevant_counts_zero() -> None:
    queries, gallery = np.zeros((2, 1), np.uint8), np.zeros((3, 1), np.uint8)
    problem = (queries, np.array([0, 1]), gallery, np.array([0, 0, 0]))
    histogram = metrics.distance_histogram(*problem, 8)
    assert histogram.without_relevant == 1
    assert metrics.mean_average_precision(histogram) == 0.5
    assert metrics.sorted_mean_average_precision(*problem, 8) == 0.5
    assert metrics.recall_at(histogram, 3) == 0.5
    assert metrics.eleven_point_precision(histogram) == [0.5] * 11


def test_radius_curve_worked_by_hand() -> None:
    # two queries pooled: radius 0 holds 1 pair (1 relevant), radius 1 holds 4 (2), radius 2 holds 6 (3 of 3)
    histogram = Histogram(np.array([[1, 1, 1], [0, 2, 1]]), np.array([[1, 0, 0], [0, 1, 1]]))
    precision, recall = metrics.radius_curve(histogram)
    assert precision == [1, 1 / 2, 1 / 2]
    assert recall == pytest.approx([1 / 3, 2 / 3, 1])


def test_eleven_points_worked_by_hand() -> None:
    # within radius 0, 1, 2: precision 0/1, 2/4, 3/10 and recall 0, 2/3, 1; up to recall 0.6 the best is 1/2
    points = metrics.eleven_point_precision(histogram_of((1, 0), (3, 2), (6, 1)))
    assert points == pytest.approx([0.5] * 7 + [0.3] * 4)
    # recall 3/10 is reached with three of ten, though 0.3 has no exact float
    points = metrics.eleven_point_precision(histogram_of((3, 3), (97, 7)))
    assert points == pytest.approx([1.0] * 4 + [0.1] * 7)


def test_bad_input_is_one_sentence() -> None:
    codes, labels = np.zeros((2, 1), np.uint8), np.array([0, 1])
    with pytest.raises(DataError, match="2 gallery codes have 1 labels"):
        metrics.distance_histogram(codes, labels, codes, labels[:1], 8)
    with pytest.raises(DataError, match="no query code"):
        metrics.distance_histogram(codes[:0], labels[:0], codes, labels, 8)
    with pytest.raises(DataError, match="no gallery code"):
        metrics.sorted_mean_average_precision(codes, labels, codes[:0], labels[:0], 8)
    with pytest.raises(CodeError, match="12 bits"):
        metrics.distance_histogram(codes, labels, codes, labels, 12)
    with pytest.raises(DataError, match="at least 1"):
        metrics.precision_at(histogram_of((1, 1)), 0)


def reached_by_sorting(
    queries: Codes, gallery: Codes, order: NDArray[np.int64], k: int, own: dict[int, int]
) -> list[bool]:
    """One stable sort per query of (distance, place in the order)."""
    found = set()
    for query, code in enumerate(queries):
        others = [row for row in range(len(gallery)) if own.get(query) != row]
        found |= set(sorted(others, key=lambda row: (np.bitwise_count(code ^ gallery[row]).sum(), order[row]))[:k])
    return [row in found for row in range(len(gallery))]


@pytest.mark.parametrize("n_bits", [8, 16])
@pytest.mark.parametrize("k", [1, 4, 30, 31, 50])
@pytest.mark.parametrize("block", [1, 100, 4_000_000])
def test_reached_codes_are_those_of_plain_sorting(
    n_bits: int, k: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "PAIRS_PER_BLOCK", block)
    queries, _, gallery, _ = random_problem(9, 6, 30, n_bits, 2)
    gallery[10:20] = gallery[0]
    gallery[3], own = queries[2], np.array([-1, -1, 3, -1, 12, -1])
    orders = [np.random.default_rng(seed).permutation(30) for seed in range(3)]
    leave_out: dict[int, int] = {2: 3, 4: 12}
    for own_rows, excluded in ((None, {}), (own, leave_out)):
        found = metrics.reached_rows(queries, gallery, n_bits, orders, own_rows, k=k)
        assert found.tolist() == [reached_by_sorting(queries, gallery, order, k, excluded) for order in orders]


def test_reach_is_the_mean_over_all_orders() -> None:
    # of five equal codes and one other, k = 2: the first query reaches two of the five, whatever the order; the second
    # one the other code and one of the same two
    gallery = np.array([[0]] * 5 + [[255]], np.uint8)
    assert metrics.reach(gallery[:1], gallery, 8, k=2) == pytest.approx(2 / 6)
    assert metrics.reach(gallery[[0, 5]], gallery, 8, k=2) == pytest.approx(3 / 6)
    # overlapping ties: all orders of six codes, three queries
    queries, gallery = np.array([[0], [3], [12]], np.uint8), np.array([[1], [2], [4], [8], [3], [15]], np.uint8)
    orders = [np.array(order) for order in itertools.permutations(range(6))]
    exact = np.mean([reached_by_sorting(queries, gallery, order, 1, {}) for order in orders])
    assert 1 / 6 < exact < 1
    estimate = metrics.reach(queries, gallery, 8, k=1, n_orders=2000)
    assert estimate == pytest.approx(exact, abs=4 * 0.5 / np.sqrt(2000 * 6))


def test_one_code_a_class_reaches_ten_photos_of_each() -> None:
    classes = np.arange(90) // 30
    codes = np.array([[1], [30], [224]], np.uint8)
    assert metrics.reach(codes[np.arange(3)], codes[classes], 8) == pytest.approx(1 / 3)


def test_leave_one_out_is_a_gallery_without_the_query() -> None:
    codes, labels, _, _ = random_problem(11, 40, 1, n_bits=8, n_classes=4)
    own = np.arange(40)
    histogram = metrics.distance_histogram(codes, labels, codes, labels, 8, own)
    published = metrics.sorted_mean_average_precision(codes, labels, codes, labels, 8, own)
    alone = []
    for row in range(40):
        others = np.delete(own, row)
        one = metrics.distance_histogram(codes[[row]], labels[[row]], codes[others], labels[others], 8)
        assert (one.counts == histogram.counts[row]).all()
        assert (one.hits == histogram.hits[row]).all()
        alone.append(
            metrics.sorted_mean_average_precision(codes[[row]], labels[[row]], codes[others], labels[others], 8)
        )
    assert published == pytest.approx(np.mean(alone), abs=1e-12)
    partly = metrics.distance_histogram(codes[:2], labels[:2], codes, labels, 8, np.array([-1, 1]))
    assert partly.counts.sum(axis=1).tolist() == [40, 39]
    assert (partly.counts[1] == histogram.counts[1]).all()


def slow_histogram(
    queries: NDArray[np.int64], query_sets: list[set[int]], gallery: NDArray[np.int64], gallery_sets: list[set[int]]
) -> Histogram:
    """Of codes as rows of 0 and 1, pair by pair."""
    n_bits = queries.shape[1]
    counts, hits = np.zeros((len(queries), n_bits + 1), np.int64), np.zeros((len(queries), n_bits + 1), np.int64)
    for i, j in itertools.product(range(len(queries)), range(len(gallery))):
        distance = sum(a != b for a, b in zip(queries[i].tolist(), gallery[j].tolist(), strict=True))
        counts[i, distance] += 1
        hits[i, distance] += bool(query_sets[i] & gallery_sets[j])
    return Histogram(counts, hits)


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 20), st.integers(1, 4), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_photos_with_several_labels(seed: int, n_queries: int, n_gallery: int, n_bits: int, n_classes: int) -> None:
    rng = np.random.default_rng(seed)
    queries, gallery = rng.integers(0, 2, (n_queries, n_bits)), rng.integers(0, 2, (n_gallery, n_bits))
    labels = [rng.random((n, n_classes)) < 0.4 for n in (n_queries, n_gallery)]
    sets = [[set(np.flatnonzero(row).tolist()) for row in part] for part in labels]
    slow = slow_histogram(queries, sets[0], gallery, sets[1])
    pair = (pack(queries - 0.5), labels[0], pack(gallery - 0.5), labels[1])
    fast = metrics.distance_histogram(*pair, n_bits)
    assert (fast.counts == slow.counts).all()
    assert (fast.hits == slow.hits).all()
    precisions = []
    for i, own in enumerate(sets[0]):
        distances = (queries[i] != gallery).sum(axis=1)
        order = np.argsort(distances, kind="stable")
        precisions.append(average_precision(tuple(bool(own & sets[1][j]) for j in order)))
    assert metrics.sorted_mean_average_precision(*pair, n_bits) == pytest.approx(mean(precisions), abs=1e-12)


def test_one_label_each_is_the_same_as_class_numbers() -> None:
    queries, query_labels, gallery, gallery_labels = random_problem(5, 20, 200, 8, 4)
    numbers = metrics.distance_histogram(queries, query_labels, gallery, gallery_labels, 8)
    one_hot = metrics.distance_histogram(
        queries, np.eye(4, dtype=bool)[query_labels], gallery, np.eye(4, dtype=bool)[gallery_labels], 8
    )
    assert (numbers.hits == one_hot.hits).all()


def test_mean_average_precision_at_a_cutoff_of_many_ties_agrees_with_random_orders() -> None:
    rng = np.random.default_rng(7)
    counts = np.array([[100, 3000, 9000]])
    hits = np.array([[40, 900, 1500]])
    sampled = []
    for _ in range(300):
        ranking = np.concatenate([rng.permutation(np.arange(n) < r) for n, r in zip(counts[0], hits[0], strict=True)])[
            :5000
        ]
        ranks = np.flatnonzero(ranking)
        sampled.append((np.arange(1, len(ranks) + 1) / (ranks + 1)).mean())
    exact = metrics.mean_average_precision_at(Histogram(counts, hits), 5000)
    assert exact == pytest.approx(np.mean(sampled), abs=4 * np.std(sampled) / 300**0.5)
    whole = metrics.mean_average_precision(Histogram(counts, hits))
    assert metrics.mean_average_precision_at(Histogram(counts, hits), 12_100) == pytest.approx(whole, abs=1e-12)
