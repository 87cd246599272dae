"""Which rows hang together: union-find over row numbers."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

RowNumbers = NDArray[np.int64]


class UnionFind:
    """Rows 0 .. n-1, each alone at first; 8 bytes a row.

    A component is named by its smallest row, so neither names nor members depend on the order of joins.
    """

    def __init__(self, n: int) -> None:
        self._above = array("q", range(n))

    def first(self, row: int) -> int:
        """The smallest row of the component that ``row`` is in."""
        above = self._above
        while above[row] != row:
            above[row] = above[above[row]]  # halves the way for whoever comes next
            row = above[row]
        return row

    def join(self, one: int, other: int) -> None:
        """Put the components of two rows together."""
        one, other = self.first(one), self.first(other)
        self._above[max(one, other)] = min(one, other)

    def join_all(self, rows: Iterable[int]) -> None:
        """Put the components of all these rows together; none and one are nothing to do."""
        iterator = iter(rows)
        one = next(iterator, None)
        for other in iterator:
            assert one is not None
            self.join(one, other)

    def firsts(self) -> RowNumbers:
        """(n,) the smallest row of each row's component."""
        return np.fromiter((self.first(row) for row in range(len(self._above))), np.int64, len(self._above))


def members(firsts: RowNumbers) -> Iterator[RowNumbers]:
    """The components of two rows or more, by their smallest row; rows ascend.

    Args:
        firsts: (n,) any numbers; equal ones mean one component.

    >>> [rows.tolist() for rows in members(np.array([0, 1, 0, 3, 1, 0]))]
    [[0, 2, 5], [1, 4]]
    """
    order = np.argsort(firsts, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(firsts[order])) + 1)
    yield from sorted((part for part in parts if len(part) > 1), key=lambda part: int(part[0]))
