"""Connected components of rows, by union-find over row numbers."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

RowNumbers = NDArray[np.int64]


class UnionFind:
    """Rows 0 .. n-1, each a component of its own at first; 8 bytes per row.

    A component is identified by its smallest row, so the result does not depend on the order of joins.
    """

    def __init__(self, n: int) -> None:
        self._parents = array("q", range(n))

    def first(self, row: int) -> int:
        """The smallest row of the component of ``row``."""
        parents = self._parents
        while parents[row] != row:
            parents[row] = parents[parents[row]]  # path halving
            row = parents[row]
        return row

    def join(self, one: int, other: int) -> None:
        """Join the components of two rows."""
        one, other = self.first(one), self.first(other)
        self._parents[max(one, other)] = min(one, other)

    def join_all(self, rows: Iterable[int]) -> None:
        """Join the components of all these rows."""
        iterator = iter(rows)
        one = next(iterator, None)
        for other in iterator:
            assert one is not None
            self.join(one, other)

    def join_pairs(self, ones: RowNumbers, others: RowNumbers) -> None:
        """Join the components of many pairs of rows, most of which are joined already; (n,) each."""
        apart = self._first_of(ones) != self._first_of(others)
        for one, other in zip(ones[apart].tolist(), others[apart].tolist(), strict=True):
            self.join(one, other)

    def _first_of(self, rows: RowNumbers) -> RowNumbers:
        """`first` of many rows."""
        parents = np.frombuffer(self._parents, np.int64)  # the same memory
        found = parents[rows]
        while (parents[found] != found).any():
            found = parents[found]
        parents[rows] = found
        return found

    def firsts(self) -> RowNumbers:
        """(n,) the smallest row of each row's component."""
        parents = np.frombuffer(self._parents, np.int64) if self._parents else np.zeros(0, np.int64)
        while not np.array_equal(further := parents[parents], parents):  # halves the depth, also of a long chain
            parents = further
        return parents.copy()


def members(firsts: RowNumbers) -> Iterator[RowNumbers]:
    """The components of two or more rows, ordered by their smallest row; rows ascend.

    Args:
        firsts: (n,) any numbers; rows with equal numbers are one component.

    >>> [rows.tolist() for rows in members(np.array([0, 1, 0, 3, 1, 0]))]
    [[0, 2, 5], [1, 4]]
    """
    order = np.argsort(firsts, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(firsts[order])) + 1)
    yield from sorted((part for part in parts if len(part) > 1), key=lambda part: int(part[0]))
