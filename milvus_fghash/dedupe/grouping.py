"""Rows that are duplicates of each other, found in full or from an earlier result; no Milvus here.

Two rows are joined when their contents are equal (one SHA-256), or their codes differ in at most `max_distance` bits.
Joins go on: of a, b, c with a near b and b near c, all three are one group, however far c is from a.

Kinds of groups:
    exact  rows of one content. A row without a known content is in none.
    near   rows that are joined one way or the other, where not all of them have one and the same known content.

A row may be in one exact and in one near group. The exact one then lies within the near one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.codes import Codes, hamming
from milvus_fghash.dedupe.union_find import RowNumbers, UnionFind, members

Kind = Literal["exact", "near"]
Near = Callable[[RowNumbers], Iterable[tuple[int, Iterable[int]]]]
"""Rows to ask for -> each of them, with all rows at most `max_distance` bits away. It may be among those itself."""

DIGEST: Final = 16
"""Bytes kept of a content's name."""


@dataclass(frozen=True)
class Census:
    """What is kept of every row of a collection: enough to tell duplicates, little enough for millions of rows.

    Attributes:
        ids: (n,) ascending; none stands twice.
        codes: (n, n_bytes) uint8.
        contents: (n, 16) uint8, a digest of `content_sha`; all zeros where that is not known.
    """

    ids: tuple[str, ...]
    codes: Codes
    contents: NDArray[np.uint8]

    @classmethod
    def of(cls, parts: Iterable[tuple[Sequence[str], Codes, Sequence[str]]], n_bytes: int) -> Census:
        """Rows in parts of (ids, codes, content_shas), in any order; of an id that stands twice the last row counts."""
        ids: list[str] = []
        codes, contents = [np.zeros((0, n_bytes), np.uint8)], [np.zeros((0, DIGEST), np.uint8)]
        for some_ids, some_codes, shas in parts:
            ids += some_ids
            codes.append(some_codes)
            contents.append(np.frombuffer(b"".join(map(_digest, shas)), np.uint8).reshape(-1, DIGEST))
        last = {key: row for row, key in enumerate(ids)}
        order = [last[key] for key in sorted(last)]
        return cls(tuple(sorted(last)), np.concatenate(codes)[order], np.concatenate(contents)[order])

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def code_firsts(self) -> RowNumbers:
        """(n,) the first row that has each row's code."""
        return _firsts(self.codes)

    @cached_property
    def content_firsts(self) -> RowNumbers:
        """(n,) the first row that has each row's content; a row whose content is not known stands for itself."""
        known = self.contents.any(axis=1)
        return np.where(known, _firsts(self.contents), np.arange(len(self)))

    @cached_property
    def positions(self) -> dict[str, int]:
        """id -> row."""
        return {key: row for row, key in enumerate(self.ids)}

    def mark(self, row: int) -> str:
        """What a row holds, in 16 hexadecimal digits: it changes with the content and with the code."""
        return hashlib.blake2b(self.contents[row].tobytes() + self.codes[row].tobytes(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Earlier:
    """What an earlier search, with the same `max_distance`, left behind.

    Attributes:
        marks: id -> `Census.mark`, for every row there was.
        groups: ids of each group.
    """

    marks: Mapping[str, str]
    groups: Sequence[Sequence[str]]


def find_groups(census: Census, near: Near, earlier: Earlier | None = None) -> Iterator[tuple[Kind, RowNumbers]]:
    """Groups of duplicates, the exact ones first, then by their first row; rows ascend.

    With an earlier result, only rows that are new or changed since then are asked for, and those whose group has lost a
    row. The groups are those of a full search all the same, as long as that result belongs to this collection.
    """
    components = UnionFind(len(census))
    for firsts in (census.content_firsts, census.code_firsts):
        for row in np.flatnonzero(firsts != np.arange(len(census))).tolist():
            components.join(int(firsts[row]), row)
    asked = _join_earlier(census, earlier, components) if earlier else np.arange(len(census))
    for asking, found in near(np.unique(census.code_firsts[asked])):  # rows of one code have the same answer
        for other in found:
            components.join(asking, other)
    for rows in members(census.content_firsts):
        yield "exact", rows
    for rows in members(components.firsts()):
        contents = census.content_firsts[rows]
        if (contents != contents[0]).any():
            yield "near", rows


def compare_here(census: Census, max_distance: int) -> Callable[[int], RowNumbers]:
    """A function from a row to all rows at most ``max_distance`` bits away that are the first of their code.

    It compares with every code there is, a byte at a time: slow, and nothing is missed.
    """
    distinct = np.unique(census.code_firsts)
    codes = census.codes[distinct]
    return lambda row: distinct[hamming(census.codes[row : row + 1], codes)[0] <= max_distance]


def _join_earlier(census: Census, earlier: Earlier, components: UnionFind) -> RowNumbers:
    """Join what an earlier result says and is still so; the rows that have to be asked for.

    A group that has lost a row may fall apart, so the rest of it is asked for, unless that is a single row: what is new
    asks for itself. A group that is whole stays joined: the rows that join it are all still in it.
    """
    position = census.positions
    fresh = np.array([earlier.marks.get(key) != census.mark(row) for row, key in enumerate(census.ids)], bool)
    asked = fresh.copy()
    for ids in earlier.groups:
        left = [row for row in (position.get(key) for key in ids) if row is not None and not fresh[row]]
        if len(left) == len(ids):
            components.join_all(left)
        elif len(left) > 1:
            asked[left] = True
    return np.flatnonzero(asked)


def _digest(content: str) -> bytes:
    return hashlib.blake2b(content.encode(), digest_size=DIGEST).digest() if content else bytes(DIGEST)


def _firsts(values: NDArray[np.uint8]) -> RowNumbers:
    """(n, width) -> (n,) the first row that is equal to each row."""
    if not len(values):
        return np.zeros(0, np.int64)
    _distinct, first, which = np.unique(values, axis=0, return_index=True, return_inverse=True)
    return first[which.reshape(-1)].astype(np.int64)
