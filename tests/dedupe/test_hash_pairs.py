"""Near pairs of 64-bit values against every pair, for each distance."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.dedupe.hash_pairs import LARGEST_BY_BANDS, near_pairs

WORD = 2**64 - 1


def found_in(values: Iterable[int], within: int) -> set[tuple[int, int]]:
    pairs = near_pairs(np.array(list(values), np.uint64), within)
    return {
        (min(pair), max(pair)) for ones, others in pairs for pair in zip(ones.tolist(), others.tolist(), strict=True)
    }


def every_pair(values: list[int], within: int) -> set[tuple[int, int]]:
    n = len(values)
    return {(a, b) for b in range(n) for a in range(b) if (values[a] ^ values[b]).bit_count() <= within}


@pytest.mark.parametrize("within", [*range(LARGEST_BY_BANDS + 2), 63, 64])
def test_every_near_pair_is_found_and_no_other(within: int) -> None:
    """Copies of 12 values with 0 to 12 bits flipped anywhere."""
    rng = np.random.default_rng(within)
    values = [int(value) for value in rng.integers(0, WORD, 12, np.uint64)]
    for value in list(values):
        for n_flips in range(13):
            values.append(value ^ sum(1 << int(bit) for bit in rng.choice(64, n_flips, replace=False)))
    assert found_in(values, within) == every_pair(values, within)


@given(st.lists(st.sampled_from([0, 1, 3, 7, WORD, WORD - 1, 1 << 63, 0b1011 << 30]), max_size=9), st.integers(0, 64))
def test_extreme_and_equal_values(values: list[int], within: int) -> None:
    assert found_in(values, within) == every_pair(values, within)


def test_parts_are_bounded_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.dedupe.hash_pairs.PAIRS_AT_ONCE", 7)
    values = [1] * 40
    assert max(len(ones) for ones, _others in near_pairs(np.array(values, np.uint64), 3)) == 7
    assert found_in(values, 3) == every_pair(values, 3)


def test_progress_counts_tables() -> None:
    told: list[tuple[int, int]] = []
    list(near_pairs(np.arange(5, dtype=np.uint64), 3, lambda done, total: told.append((done, total))))
    assert told == [(number, 20) for number in range(1, 21)]
