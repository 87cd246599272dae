"""Retrieval metrics on packed codes, exact under ties. NumPy only.

Codes of c bits have only c + 1 distances, so most of a ranking is ties. All metrics except the published, sort-based
mAP are functions of one histogram: how many gallery codes, and how many relevant ones, are at each distance from each
query. It is sufficient when equal distances have no order, and takes O(gallery) per query.

Shapes:
    codes   (n, n_bytes) uint8   packed, see `core.codes`
    labels  (n,) integers        class numbers; a gallery code is relevant when its number is the query's
            (n, n_classes) bool  of photos with several labels; it is relevant when it shares a label with the query

A query with no relevant gallery code counts 0 in every mean over queries; `Histogram.without_relevant` counts them.
Where a query is itself in the gallery (leave-one-out), ``own_rows`` (n_queries,) has its gallery row, or -1; the query
does not find itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.codes import Codes, check_codes, hamming
from milvus_fghash.errors import DataError

Labels = NDArray[np.integer[Any]] | NDArray[np.bool_]
OwnRows = NDArray[np.int64]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

PAIRS_PER_BLOCK = 4_000_000
"""Query-gallery pairs in memory at a time: about 100 MB at the peak."""
REACH_HITS = 10
"""First hits of a query that `reach` counts."""
REACH_ORDERS = 10
"""Random orders of the gallery over which `reach` is averaged."""


@dataclass(frozen=True)
class Histogram:
    """Gallery codes by distance, for each query.

    Attributes:
        counts: (n_queries, n_bits + 1) int64, gallery codes at each distance.
        hits: (n_queries, n_bits + 1) int64, the relevant ones among them.
    """

    counts: NDArray[np.int64]
    hits: NDArray[np.int64]

    @property
    def relevant(self) -> NDArray[np.int64]:
        """(n_queries,) number of relevant gallery codes."""
        relevant: NDArray[np.int64] = self.hits.sum(axis=1)
        return relevant

    @property
    def without_relevant(self) -> int:
        """Number of queries without a relevant gallery code."""
        return int((self.relevant == 0).sum())


def distance_histogram(
    queries: Codes,
    query_labels: Labels,
    gallery: Codes,
    gallery_labels: Labels,
    n_bits: int,
    own_rows: OwnRows | None = None,
) -> Histogram:
    """Count the gallery codes at each distance from each query, in bounded memory.

    Raises:
        DataError: when there are no queries or no gallery codes, or the numbers of codes and labels differ.
        CodeError: when codes do not have ``n_bits``.
    """
    n_columns = n_bits + 2  # the last one holds queries themselves
    counts, hits = (np.zeros((len(queries), n_columns), np.int64) for _ in range(2))
    for block, distances, relevant in _blocks(queries, query_labels, gallery, gallery_labels, n_bits, own_rows):
        n_rows = len(distances)
        cells = distances + np.arange(n_rows)[:, None] * n_columns
        n_cells = n_rows * n_columns
        counts[block] = np.bincount(cells.ravel(), minlength=n_cells).reshape(n_rows, -1)
        hits[block] = np.bincount(cells[relevant], minlength=n_cells).reshape(n_rows, -1)
    return Histogram(counts[:, :-1], hits[:, :-1])


def average_precisions(histogram: Histogram) -> Floats:
    """(n_queries,) expected average precision over all orders of equal distances.

    McSherry & Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied
    Scores", ECIR 2008. A group of n codes at one distance, r of them relevant, after N0 codes of which R0 are relevant,
    adds (before the division by the number of relevant codes)

        sum_{k=1..n} r/n (R0 + 1 + (k-1) s) / (N0 + k)  =  r/n (s n + (R0 + 1 - s (N0 + 1)) (H(N0+n) - H(N0)))

    with s = (r-1)/(n-1), or 0 when n = 1, and H the harmonic numbers. Exact up to rounding (below 1e-8 for a
    million gallery codes).

    >>> one_tie = Histogram(np.array([[0, 2]]), np.array([[0, 1]]))  # ranks 1 and 2, one of them relevant
    >>> average_precisions(one_tie)
    array([0.75])
    """
    n, r = histogram.counts, histogram.hits
    n_before, r_before = n.cumsum(axis=1) - n, r.cumsum(axis=1) - r
    gain = tie_gains(n, r, n_before, r_before, harmonic_numbers(int(n.sum(axis=1).max())))
    return _ratio(gain.sum(axis=1), histogram.relevant)


def tie_gains(
    n: Counts | np.int64, r: Counts, n_before: Counts | np.int64, r_before: Counts | np.int64, harmonic: Floats
) -> Floats:
    """What each group of ties adds to the average precision times the number of relevant codes; see there."""
    slope = np.where(n > 1, (r - 1) / np.maximum(n - 1, 1), 0.0)
    ranks = harmonic[n_before + n] - harmonic[n_before]
    gains: Floats = r / np.maximum(n, 1) * (slope * n + (r_before + 1 - slope * (n_before + 1)) * ranks)
    return gains


def mean_average_precision(histogram: Histogram) -> float:
    """mAP@all as the exact expectation over ties: the mean of `average_precisions`."""
    return float(average_precisions(histogram).mean())


def mean_average_precision_at(histogram: Histogram, k: int) -> float:
    """mAP@k as the exact expectation over ties, as papers report it for large galleries (NUS-WIDE: k = 5,000).

    The average precision of a query is the mean of the precisions at the ranks of the relevant codes among the first
    ``k`` (as in the code of HashNet and CSQ), and 0 where there is none. In the group of equal distances at the cutoff,
    the number of relevant codes among the first ``k`` is hypergeometric; given this number, the sum in
    `average_precisions` holds for that part of the group.

    >>> one_tie = Histogram(np.array([[0, 2]]), np.array([[0, 1]]))  # the relevant code is on rank 1 or 2
    >>> round(mean_average_precision_at(one_tie, 1), 9), round(mean_average_precision_at(one_tie, 2), 9)
    (0.5, 0.75)
    """
    _check_cutoff(k)
    n, r = histogram.counts, histogram.hits
    n_before, r_before = n.cumsum(axis=1) - n, r.cumsum(axis=1) - r
    harmonic = harmonic_numbers(int(n.sum(axis=1).max()))
    whole = n_before + n <= k
    gains = np.where(whole, tie_gains(n, r, n_before, r_before, harmonic), 0.0).sum(axis=1)
    found = np.where(whole, r, 0).sum(axis=1)
    precisions = _ratio(gains, found)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n.max() + 1)))])
    for row in np.nonzero((n_before < k).sum(axis=1) > whole.sum(axis=1))[0]:  # the cutoff lies inside a group
        group = int(whole[row].sum())
        size, relevant = n[row, group], r[row, group]
        taken = k - n_before[row, group]
        above = np.arange(max(0, taken - (size - relevant)), min(taken, relevant) + 1)
        parts = (above, relevant - above, taken - above, size - relevant - taken + above)
        log_chance = -np.sum([log_factorial[part] for part in parts], axis=0)
        chance = np.exp(log_chance - log_chance.max())
        gain = tie_gains(taken, above, n_before[row, group], r_before[row, group], harmonic)
        precisions[row] = (chance * _ratio(gains[row] + gain, found[row] + above)).sum() / chance.sum()
    return float(precisions.mean())


def sorted_mean_average_precision(
    queries: Codes,
    query_labels: Labels,
    gallery: Codes,
    gallery_labels: Labels,
    n_bits: int,
    own_rows: OwnRows | None = None,
) -> float:
    """mAP@all as published code computes it: one stable sort, so that ties keep the stored order of the gallery.

    It depends on that order, and is for comparisons with papers; compare models by `mean_average_precision`. The last
    rank is included (a slice ``[:-1]`` in published code drops it).

    Raises:
        DataError, CodeError: as `distance_histogram`.
    """
    total = 0.0
    for _, distances, relevant in _blocks(queries, query_labels, gallery, gallery_labels, n_bits, own_rows):
        ranked = np.take_along_axis(relevant, np.argsort(distances, axis=1, kind="stable"), axis=1)
        rows, ranks = np.nonzero(ranked)
        found = ranked.sum(axis=1)
        first = found.cumsum() - found
        found_so_far = np.arange(1, len(rows) + 1) - first[rows]
        precision = np.bincount(rows, found_so_far / (ranks + 1), minlength=len(ranked))
        total += float(_ratio(precision, found).sum())
    return total / len(queries)


def precision_at(histogram: Histogram, k: int) -> float:
    """Expected fraction of relevant codes among the first ``k``; ranks beyond the end of the gallery are misses."""
    return float((_expected_hits(histogram, k) / k).mean())


def recall_at(histogram: Histogram, k: int) -> float:
    """Expected fraction of a query's relevant codes that are among the first ``k``."""
    return float(_ratio(_expected_hits(histogram, k), histogram.relevant).mean())


def reach(
    queries: Codes,
    gallery: Codes,
    n_bits: int,
    own_rows: OwnRows | None = None,
    *,
    k: int = REACH_HITS,
    n_orders: int = REACH_ORDERS,
) -> float:
    """Share of gallery codes that are among the first ``k`` hits of at least one query.

    A search orders equal distances the same way for every query (this project: by id), so a code that is equal for a
    whole class shows the same ``k`` photos of it for ever. Hence ties are broken by one random order of the gallery for
    all queries, and the result is the mean over ``n_orders`` such orders of fixed seeds: an estimate of the expectation
    over all orders, with a standard error below 0.5 / sqrt(n_orders n_gallery), 0.005 for 1,000 codes. Without ties at
    the cutoff it is exact.

    Raises:
        DataError: when ``k`` is less than 1, or there are no queries or no gallery codes.
        CodeError: when codes do not have ``n_bits``.
    """
    orders = [np.random.default_rng(seed).permutation(len(gallery)) for seed in range(n_orders)]
    return float(np.mean([rows.mean() for rows in reached_rows(queries, gallery, n_bits, orders, own_rows, k=k)]))


def reached_rows(
    queries: Codes,
    gallery: Codes,
    n_bits: int,
    orders: Sequence[NDArray[np.int64]],
    own_rows: OwnRows | None = None,
    *,
    k: int = REACH_HITS,
) -> NDArray[np.bool_]:
    """(n_orders, n_gallery): which gallery codes are among the first ``k`` hits of any query.

    Args:
        orders: each (n_gallery,), the place of every gallery code among codes at the same distance.

    Raises:
        DataError, CodeError: as `reach`.
    """
    _check_cutoff(k)
    reached = np.zeros((len(orders), len(gallery)), bool)
    for _, distances in _distance_blocks(queries, gallery, n_bits, own_rows):
        cutoff = np.partition(distances, min(k, len(gallery)) - 1, axis=1)[:, min(k, len(gallery)) - 1]
        nearer = distances < cutoff[:, None]
        reached |= nearer.any(axis=0)
        rows, tied = np.nonzero((distances == cutoff[:, None]) & (cutoff <= n_bits)[:, None])
        places_left = k - nearer.sum(axis=1)
        first = np.searchsorted(rows, np.arange(len(distances)))  # where the ties of each query begin
        for found, order in zip(reached, orders, strict=True):
            sort = np.lexsort((order[tied], rows))
            chosen = np.arange(len(rows)) - first[rows] < places_left[rows]
            found[tied[sort[chosen]]] = True
    return reached


def radius_curve(histogram: Histogram) -> tuple[list[float | None], list[float]]:
    """Precision and recall of all codes within radius r, for r = 0 .. n_bits.

    Micro-averaged: all query-gallery pairs are pooled. Precision is None where no pair is within the radius.

    >>> radius_curve(Histogram(np.array([[0, 2, 2]]), np.array([[0, 1, 0]])))
    ([None, 0.5, 0.25], [0.0, 1.0, 1.0])
    """
    counts, hits = histogram.counts.sum(axis=0).cumsum(), histogram.hits.sum(axis=0).cumsum()
    precision = [float(found / n) if n else None for n, found in zip(counts, hits, strict=True)]
    return precision, [float(value) for value in _ratio(hits, np.full_like(hits, hits[-1]))]


def eleven_point_precision(histogram: Histogram) -> list[float]:
    """Interpolated precision at recall 0, 0.1 .. 1, averaged over queries (macro).

    Interpolated: the best precision at any radius with at least that recall. Only complete radii count, so ties need
    no order.
    """
    counts, hits = histogram.counts.cumsum(axis=1), histogram.hits.cumsum(axis=1)
    precision = _ratio(hits, counts)
    best_from_here = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # hits/relevant >= tenth/10 in integers: 0.3 and 0.7 have no exact float
    reached = [10 * hits >= tenth * histogram.relevant[:, None] for tenth in range(11)]
    first = [np.argmax(mask, axis=1)[:, None] for mask in reached]
    return [float(np.take_along_axis(best_from_here, radius, axis=1).mean()) for radius in first]


def relevant_pairs(query_labels: Labels, gallery_labels: Labels) -> NDArray[np.bool_]:
    """(n_queries, n_gallery), which gallery codes are relevant to which queries."""
    relevant: NDArray[np.bool_]
    if query_labels.ndim == 1:
        relevant = query_labels[:, None] == gallery_labels[None, :]
    else:
        relevant = query_labels.astype(np.float32) @ gallery_labels.T.astype(np.float32) > 0
    return relevant


def _blocks(
    queries: Codes,
    query_labels: Labels,
    gallery: Codes,
    gallery_labels: Labels,
    n_bits: int,
    own_rows: OwnRows | None,
) -> Iterator[tuple[slice, NDArray[np.uint16], NDArray[np.bool_]]]:
    """`_distance_blocks`, and which pairs are relevant; a query is not relevant to itself."""
    for name, codes, labels in (("query", queries, query_labels), ("gallery", gallery, gallery_labels)):
        if len(codes) != len(labels):
            raise DataError(f"{len(codes)} {name} codes have {len(labels)} labels; each code needs one")
    for block, distances in _distance_blocks(queries, gallery, n_bits, own_rows):
        relevant = relevant_pairs(query_labels[block], gallery_labels)
        if own_rows is not None:
            relevant[_itself(own_rows[block])] = False
        yield block, distances, relevant


def _distance_blocks(
    queries: Codes, gallery: Codes, n_bits: int, own_rows: OwnRows | None
) -> Iterator[tuple[slice, NDArray[np.uint16]]]:
    """Query rows and their distances to the gallery, a bounded number of pairs at a time; a query is at n_bits + 1 from
    itself, behind all others."""
    for name, codes in (("query", queries), ("gallery", gallery)):
        if not len(codes):
            raise DataError(f"there are no {name} codes to evaluate")
    queries, gallery = check_codes(queries, n_bits), check_codes(gallery, n_bits)
    step = max(1, PAIRS_PER_BLOCK // len(gallery))
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        distances = hamming(queries[block], gallery)
        if own_rows is not None:
            distances[_itself(own_rows[block])] = n_bits + 1
        yield block, distances


def _itself(own_rows: OwnRows) -> tuple[NDArray[np.intp], OwnRows]:
    """Rows of the queries that are in the gallery, and their rows there."""
    inside = np.flatnonzero(own_rows >= 0)
    return inside, own_rows[inside]


def _check_cutoff(k: int) -> None:
    if k < 1:
        raise DataError(f"k must be at least 1, got {k}")


def _expected_hits(histogram: Histogram, k: int) -> Floats:
    """(n_queries,) expected relevant codes among the first k: complete groups, and a part of the group at the cutoff.

    The number drawn from that group is hypergeometric, with mean (ranks left) r / n.
    """
    _check_cutoff(k)
    n = histogram.counts
    taken = np.clip(k - (n.cumsum(axis=1) - n), 0, n)
    expected: Floats = (histogram.hits * taken / np.maximum(n, 1)).sum(axis=1)
    return expected


def harmonic_numbers(up_to: int) -> Floats:
    """H(0) .. H(up_to)."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, up_to + 1))])


def _ratio(part: NDArray[Any], total: NDArray[Any]) -> Floats:
    """part / total, and 0 where the total is 0."""
    ratio: Floats = np.divide(part, total, out=np.zeros(part.shape), where=total != 0)
    return ratio
