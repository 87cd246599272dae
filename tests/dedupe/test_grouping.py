"""Groups of duplicates by hand, against a slow reference, and from an earlier result; NumPy takes Milvus' place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from milvus_fghash.dedupe.grouping import Census, Earlier, Kind, alike_by_phash, compare_locally, find_groups
from milvus_fghash.dedupe.union_find import RowNumbers

ALIKE = 2
"""Bits in which perceptual hashes may differ."""
State = dict[str, tuple[int, str]]
"""id -> (code of one byte, content)."""
Named = list[tuple[Kind, list[str]]]


Phashes = Mapping[str, int]
"""id -> perceptual hash; none: 0."""


def census_of(state: State, phashes: Phashes) -> Census:
    ids = list(state)
    codes = np.array([code for code, _sha in state.values()], np.uint8).reshape(-1, 1)
    return Census.of([(ids, codes, [sha for _code, sha in state.values()], [phashes.get(key, 0) for key in ids])], 1)


@dataclass
class Store:
    """A collection; remembers who was asked for."""

    state: State
    within: int | None
    phashes: Phashes = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def search(self, earlier: Earlier | None = None) -> Named:
        census = census_of(self.state, self.phashes)
        here = compare_locally(census, self.within or 0)

        def near(rows: RowNumbers) -> Iterator[tuple[int, Sequence[int]]]:
            for row in rows.tolist():
                self.asked.append(census.ids[row])
                yield row, here(row).tolist()

        found = find_groups(census, alike_by_phash(census, ALIKE), None if self.within is None else near, earlier)
        return [(kind, [census.ids[row] for row in rows]) for kind, rows in found]

    def as_earlier(self) -> Earlier:
        census = census_of(self.state, self.phashes)
        marks = {key: census.fingerprint(row) for row, key in enumerate(census.ids)}
        return Earlier(marks, [ids for _kind, ids in self.search()])


def slowly(state: State, within: int | None, phashes: Phashes = MappingProxyType({})) -> Named:
    """Every pair looked at; sets that touch are put together until none does."""
    same = [{a, b} for a, b in combinations(state, 2) if state[a][1] == state[b][1] != ""]
    near = [
        {a, b}
        for a, b in combinations(state, 2)
        if (within is not None and (state[a][0] ^ state[b][0]).bit_count() <= within)
        or (phashes.get(a) and phashes.get(b) and (phashes[a] ^ phashes[b]).bit_count() <= ALIKE)
    ]
    exact = [group for group in merged(same) if len(group) > 1]
    both = [group for group in merged(same + near) if not (len({state[key][1] for key in group} - {""}) == 1 and
            all(state[key][1] for key in group))]  # fmt: skip
    kinds: list[tuple[Kind, list[set[str]]]] = [("exact", exact), ("near", both)]
    return [(kind, group) for kind, groups in kinds for group in sorted(map(sorted, groups))]


def merged(pairs: list[set[str]]) -> list[set[str]]:
    groups: list[set[str]] = []
    for pair in pairs:
        touching = [group for group in groups if group & pair]
        groups = [group for group in groups if not group & pair] + [pair.union(*touching)]
    return groups


states = st.dictionaries(
    st.sampled_from("abcdefghij"),
    st.tuples(
        st.sampled_from([0b0, 0b1, 0b11, 0b111, 0b1111, 0b11110000, 0b11100000, 0b1000]),
        st.sampled_from("xyz") | st.just(""),
    ),
)


def test_worked_by_hand() -> None:
    state = {
        "a": (0b0000_0000, "one"),
        "b": (0b0000_0001, "two"),  # 1 from a
        "c": (0b0000_0011, "three"),  # 1 from b, 2 from a
        "d": (0b1111_0000, "four"),
        "e": (0b1111_0000, "four"),  # a copy of d
        "f": (0b0011_1100, "five"),  # alone
        "g": (0b1111_1111, ""),
        "h": (0b1111_1111, ""),  # one code, contents not known
        "i": (0b1100_0000, "one"),  # a copy of a with another code
    }
    assert Store(state, 0).search() == [
        ("exact", ["a", "i"]), ("exact", ["d", "e"]), ("near", ["g", "h"])
    ]  # fmt: skip
    assert Store(state, 1).search() == [
        ("exact", ["a", "i"]), ("exact", ["d", "e"]), ("near", ["a", "b", "c", "i"]), ("near", ["g", "h"])
    ]  # fmt: skip
    assert Store(state, 2).search()[2:] == [("near", ["a", "b", "c", "d", "e", "i"]), ("near", ["g", "h"])]


def test_rows_of_one_code_are_searched_for_once() -> None:
    store = Store({key: (7 if key in "bdf" else 200 + ord(key) % 2, "") for key in "abcdef"}, 1)
    store.search()
    assert sorted(store.asked) == ["a", "b"]


@given(states, st.integers(0, 3))
def test_a_full_search_is_the_slow_one(state: State, within: int) -> None:
    assert Store(state, within).search() == slowly(state, within)


phashes = st.dictionaries(
    st.sampled_from("abcdefghij"), st.sampled_from([0, 1, 0b11, 0b111, 0b1111, 0b11111, 7 << 40, 15 << 40, 1 << 62])
)


@given(states, st.none() | st.integers(0, 3), phashes)
@example({"a": (0, "x"), "b": (0, "y")}, None, {})  # one code, which is not compared
@example({"a": (0, "x"), "b": (0, "y")}, None, {"a": 7, "b": 7})
def test_perceptual_hashes_join_beside_the_codes(state: State, within: int | None, phashes: Phashes) -> None:
    assert Store(state, within, phashes).search() == slowly(state, within, phashes)


@given(states, phashes, states, phashes, st.none() | st.integers(0, 3))
def test_an_earlier_result_with_perceptual_hashes(
    before: State, hashes_before: Phashes, now: State, hashes: Phashes, within: int | None
) -> None:
    hash_of: dict[str, int] = {}  # a content has one hash

    def settled(state: State, phashes: Phashes) -> Phashes:
        return {
            key: hash_of.setdefault(sha, phashes.get(key, 0)) if sha else phashes.get(key, 0)
            for key, (_code, sha) in state.items()
        }

    earlier = Store(before, within, settled(before, hashes_before)).as_earlier()
    after = settled(now, hashes)
    assert Store(now, within, after).search(earlier) == slowly(now, within, after)


CHAIN = {"a": (0b1, "x"), "b": (0b11, "y"), "c": (0b111, "z")}


@given(states, states, st.integers(0, 3))
@example(CHAIN, {key: CHAIN[key] for key in "ac"}, 1)  # what joined a and c is gone
@example({"a": (0, "x"), "b": (1, "x")}, {"a": (0, "x"), "b": (1, "")}, 0)  # a content that is no longer known
def test_going_on_from_an_earlier_result_is_a_full_search(before: State, now: State, within: int) -> None:
    earlier = Store(before, within).as_earlier()
    assert Store(now, within).search(earlier) == slowly(now, within)


@given(states, st.data(), st.integers(0, 3))
def test_small_changes_too(before: State, data: st.DataObject, within: int) -> None:
    """Two states drawn apart have little in common; here most rows stay."""
    now = dict(before)
    for key in data.draw(st.sets(st.sampled_from("abcdefghij"), max_size=3)):
        now.pop(key, None)
    now |= data.draw(states.filter(lambda some: len(some) < 4))
    assert Store(now, within).search(Store(before, within).as_earlier()) == slowly(now, within)


def test_a_group_that_has_lost_a_row_falls_apart_again() -> None:
    earlier = Store(CHAIN, 1).as_earlier()
    assert earlier.groups == [["a", "b", "c"]]
    store = Store({key: CHAIN[key] for key in "ac"}, 1)
    assert store.search(earlier) == []
    assert store.asked == ["a", "c"]


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({}, []),
        ({"f": (0b1, "new")}, ["a"]),  # a has its code, and rows of one code have one answer
        ({"f": (0b1000, "new")}, ["f"]),
        ({"b": (0b11, "new")}, ["a", "b", "c"]),  # changed: its group has lost a row, and it is new
        ({"d": (0b1110_0000, "w")}, ["d"]),  # same content, another code
    ],
)
def test_only_changes_are_searched_for(change: State, asked: list[str]) -> None:
    before = {**CHAIN, "d": (0b1111_0000, "w"), "e": (0b1111_1111, "v")}
    store = Store({**before, **change}, 1)
    assert store.search(Store(before, 1).as_earlier()) == slowly({**before, **change}, 1)
    assert store.asked == asked


def test_a_census_is_in_order_and_the_last_row_of_an_id_counts() -> None:
    parts = [
        (["b", "a"], np.array([[1], [2]], np.uint8), ["x", ""], [7, 8]),
        (["b"], np.array([[3]], np.uint8), ["y"], [9]),
    ]
    census = Census.of(parts, 1)
    assert census.ids == ("a", "b")
    assert census.codes.tolist() == [[2], [3]]
    assert census.phashes.tolist() == [8, 9]
    assert census.contents.any(axis=1).tolist() == [False, True]
    assert len(Census.of([], 3)) == 0
    assert Census.of([], 3).codes.shape == (0, 3)


def test_a_mark_changes_with_code_and_content() -> None:
    marks = {census_of({"a": held}, {}).fingerprint(0) for held in [(1, "x"), (2, "x"), (1, "y"), (1, "")]}
    marks |= {census_of({"a": (1, "")}, {"a": 5}).fingerprint(0)}
    assert len(marks) == 5
    assert census_of({"b": (1, "x")}, {}).fingerprint(0) in marks
    assert all(len(mark) == 16 for mark in marks)
