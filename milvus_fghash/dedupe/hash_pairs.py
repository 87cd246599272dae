"""All pairs of 64-bit values that differ in few bits, by multi-index hashing (Norouzi, Punjani, Fleet, CVPR 2012).

The bits are dealt out to `within` + 3 bands. Two values that differ in at most `within` bits differ in at most as many
bands, so at least three bands are equal. For each choice of three bands, the values are sorted by the bits of these
bands, and only values with equal ones are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.callbacks import Progress
from milvus_fghash.dedupe.union_find import RowNumbers

BITS: Final = 64
EQUAL_BANDS: Final = 3
"""With 2, a million hashes of photos have seven times as many candidates; with 4, there are more sorts than gained."""
LARGEST_BY_BANDS: Final = 8
"""Largest distance that is searched by bands; beyond, the bands are so short that comparing all pairs is faster."""
PAIRS_AT_ONCE: Final = 1 << 20


def near_pairs(
    values: NDArray[np.uint64], within: int, progress: Progress = lambda done, total: None
) -> Iterator[tuple[RowNumbers, RowNumbers]]:
    """All pairs of values that differ in at most `within` bits, in parts (rows, other rows).

    A pair may come several times. Memory: about 40 bytes a value.

    Args:
        values: (n,), equal ones too.
        within: 0 to 64.
        progress: called with the number of sorted tables, and their total.
    """
    masks = _masks(within)
    for done, mask in enumerate(masks, 1):
        order = np.argsort(values & mask, kind="stable")
        for one, other in _pairs_of_equal_keys(values[order] & mask):
            near = np.bitwise_count(values[order[one]] ^ values[order[other]]) <= within
            if near.any():
                yield order[one[near]], order[other[near]]
        progress(done, len(masks))


def _masks(within: int) -> list[np.uint64]:
    """The bits of each choice of bands; no bit where all pairs are compared."""
    if within > LARGEST_BY_BANDS:
        return [np.uint64(0)]
    n_bands = within + EQUAL_BANDS
    # Every n-th bit, since neighbours depend on each other: each band gets bits of shapes and of colours.
    bands = [sum(1 << bit for bit in range(first, BITS, n_bands)) for first in range(n_bands)]
    return [np.uint64(sum(chosen)) for chosen in combinations(bands, EQUAL_BANDS)]


def _pairs_of_equal_keys(keys: NDArray[np.uint64]) -> Iterator[tuple[RowNumbers, RowNumbers]]:
    """Positions of equal keys among sorted ones: neighbours, then next but one, until no two are equal."""
    left, step = np.arange(len(keys)), 0
    while len(left):
        step += 1
        left = left[: np.searchsorted(left, len(keys) - step)]
        left = left[keys[left] == keys[left + step]]
        for start in range(0, len(left), PAIRS_AT_ONCE):
            part = left[start : start + PAIRS_AT_ONCE]
            yield part, part + step
