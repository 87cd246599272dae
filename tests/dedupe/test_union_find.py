"""Union-find against a slow walk over the joins."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.dedupe.union_find import UnionFind, members


def reached(n: int, joins: list[tuple[int, int]]) -> list[int]:
    """The smallest row that can be reached from each row, by walking until nothing changes."""
    smallest = list(range(n))
    for _ in range(n):
        for one, other in joins:
            smallest[one] = smallest[other] = min(smallest[one], smallest[other])
    return smallest


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_components_are_what_can_be_reached(case: tuple[int, list[tuple[int, int]]]) -> None:
    n, joins = case
    components = UnionFind(n)
    for one, other in joins:
        components.join(one, other)
    assert components.firsts().tolist() == reached(n, joins)
    backwards = UnionFind(n)
    for one, other in reversed(joins):
        backwards.join(other, one)
    assert backwards.firsts().tolist() == components.firsts().tolist()
    at_once = UnionFind(n)
    half = len(joins) // 2
    for part in (joins[:half], joins[half:]):
        ones, others = np.array(part, np.int64).reshape(-1, 2).T
        at_once.join_pairs(ones, others)
    assert at_once.firsts().tolist() == components.firsts().tolist()


def test_worked_by_hand() -> None:
    components = UnionFind(7)
    components.join(5, 6)
    components.join_all([4, 2, 6])
    components.join_all([])
    components.join_all([3])
    assert components.firsts().tolist() == [0, 1, 2, 3, 2, 2, 2]
    assert [rows.tolist() for rows in members(components.firsts())] == [[2, 4, 5, 6]]


def test_no_rows() -> None:
    assert UnionFind(0).firsts().tolist() == []
    assert list(members(np.zeros(0, np.int64))) == []


def test_a_long_chain_is_no_deep_recursion() -> None:
    components = UnionFind(20_000)
    for row in range(19_999, 0, -1):
        components.join(row, row - 1)
    assert not components.firsts().any()
