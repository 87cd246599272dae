"""Groups of duplicate rows, from all rows or continued from an earlier result. Does not call Milvus.

Two rows are connected when their contents are equal (one SHA-256), when their photos' perceptual hashes differ in few
bits, or, on request, when their codes do. A group is a connected component: if a is near b and b is near c, all three
are one group, however far c is from a.

Kinds of groups:
    exact  rows with the same content. A row whose content is unknown is in none.
    near   connected rows that do not all have the same known content.

A row may be in one exact and in one near group; the exact group is then part of the near one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.codes import Codes, hamming
from milvus_fghash.core.perceptual_hash import NO_HASH
from milvus_fghash.dedupe.hash_pairs import near_pairs
from milvus_fghash.dedupe.union_find import RowNumbers, UnionFind, members

Kind = Literal["exact", "near"]
Near = Callable[[RowNumbers], Iterable[tuple[int, Iterable[int]]]]
"""Rows -> each of them with all rows whose codes are near, possibly including itself."""
Pairs = Iterable[tuple[RowNumbers, RowNumbers]]
"""Pairs of connected rows, in parts."""

DIGEST_BYTES: Final = 16
"""Length of the digest that stands for a content."""


@dataclass(frozen=True)
class Census:
    """Id, code, content and perceptual hash of every row of a collection, small enough for millions of rows.

    Attributes:
        ids: (n,) ascending and unique.
        codes: (n, n_bytes) uint8.
        contents: (n, 16) uint8, digests of `content_sha`; all zeros where that is unknown.
        phashes: (n,) perceptual hashes; `NO_HASH` where there is none.
    """

    ids: tuple[str, ...]
    codes: Codes
    contents: NDArray[np.uint8]
    phashes: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Iterable[tuple[Sequence[str], Codes, Sequence[str], Sequence[int]]], n_bytes: int) -> Census:
        """From parts (ids, codes, content_shas, phashes) in any order; of a repeated id the last row counts."""
        ids: list[str] = []
        codes, contents = [np.zeros((0, n_bytes), np.uint8)], [np.zeros((0, DIGEST_BYTES), np.uint8)]
        phashes = [np.zeros(0, np.int64)]
        for some_ids, some_codes, shas, some_phashes in parts:
            ids += some_ids
            codes.append(some_codes)
            contents.append(np.frombuffer(b"".join(map(_digest, shas)), np.uint8).reshape(-1, DIGEST_BYTES))
            phashes.append(np.array(some_phashes, np.int64))
        last = {key: row for row, key in enumerate(ids)}
        order = [last[key] for key in sorted(last)]
        return cls(
            tuple(sorted(last)),
            np.concatenate(codes)[order],
            np.concatenate(contents)[order],
            np.concatenate(phashes)[order],
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def code_firsts(self) -> RowNumbers:
        """(n,) the first row with the same code."""
        return _firsts(self.codes)

    @cached_property
    def content_firsts(self) -> RowNumbers:
        """(n,) the first row with the same content; a row of unknown content is its own."""
        known = self.contents.any(axis=1)
        return np.where(known, _firsts(self.contents), np.arange(len(self)))

    @cached_property
    def positions(self) -> dict[str, int]:
        """id -> row."""
        return {key: row for row, key in enumerate(self.ids)}

    def fingerprint(self, row: int) -> str:
        """16 hexadecimal digits that change with the row's content or code.

        Where the content is unknown, its perceptual hash tells that it changed.
        """
        content = self.contents[row].tobytes()
        if not self.contents[row].any() and self.phashes[row] != NO_HASH:
            content = self.phashes[row].tobytes()
        return hashlib.blake2b(content + self.codes[row].tobytes(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Earlier:
    """Rows and groups of an earlier search with the same distances.

    Attributes:
        fingerprints: id -> `Census.fingerprint` of every row at that time.
        groups: ids of each group.
    """

    fingerprints: Mapping[str, str]
    groups: Sequence[Sequence[str]]


def find_groups(
    census: Census, alike: Pairs, near: Near | None, earlier: Earlier | None = None
) -> Iterator[tuple[Kind, RowNumbers]]:
    """Groups of duplicates, the exact ones first, then ordered by their first row; rows ascend.

    With an earlier result of the same collection, ``near`` is called only for rows that are new or changed since then,
    and for those whose group has lost a row. The groups are the same as those of a full search.

    Args:
        alike: all pairs of rows with near perceptual hashes.
        near: finds rows with near codes; None: codes are not compared.
    """
    components = UnionFind(len(census))
    for firsts in (census.content_firsts, *([census.code_firsts] if near else [])):
        components.join_pairs(firsts, np.arange(len(census)))
    searched = _join_earlier(census, earlier, components) if earlier else np.arange(len(census))
    for ones, others in alike:
        components.join_pairs(ones, others)
    if near:  # rows with one code have the same neighbours
        for row, neighbours in near(np.unique(census.code_firsts[searched])):
            for other in neighbours:
                components.join(row, other)
    for rows in members(census.content_firsts):
        yield "exact", rows
    for rows in members(components.firsts()):
        contents = census.content_firsts[rows]
        if (contents != contents[0]).any():
            yield "near", rows


def alike_by_phash(census: Census, within: int, progress: Progress = lambda done, total: None) -> Pairs:
    """All pairs of rows whose perceptual hashes differ in at most ``within`` bits; rows of one hash are chained."""
    known = np.flatnonzero(census.phashes != NO_HASH)
    hashes, first, which = np.unique(census.phashes[known].view(np.uint64), return_index=True, return_inverse=True)
    firsts = known[first]
    yield firsts[which], known
    for ones, others in near_pairs(hashes, within, progress):
        yield firsts[ones], firsts[others]


def compare_locally(census: Census, max_distance: int) -> Callable[[int], RowNumbers]:
    """A function from a row to all rows at most ``max_distance`` bits away that are the first with their code.

    It compares with every code: slow, but complete.
    """
    distinct = np.unique(census.code_firsts)
    codes = census.codes[distinct]
    return lambda row: distinct[hamming(census.codes[row : row + 1], codes)[0] <= max_distance]


def _join_earlier(census: Census, earlier: Earlier, components: UnionFind) -> RowNumbers:
    """Join the groups of an earlier result that are unchanged; returns the rows that have to be searched for.

    A group that has lost a row may fall apart, so its other rows are searched for, unless only one is left: new rows
    search for themselves. A complete group stays joined, since all rows that connect it are still in it.
    """
    position = census.positions
    changed = [earlier.fingerprints.get(key) != census.fingerprint(row) for row, key in enumerate(census.ids)]
    searched = np.array(changed, bool)
    for ids in earlier.groups:
        left = [row for row in (position.get(key) for key in ids) if row is not None and not changed[row]]
        if len(left) == len(ids):
            components.join_all(left)
        elif len(left) > 1:
            searched[left] = True
    return np.flatnonzero(searched)


def _digest(content: str) -> bytes:
    return hashlib.blake2b(content.encode(), digest_size=DIGEST_BYTES).digest() if content else bytes(DIGEST_BYTES)


def _firsts(values: NDArray[np.uint8]) -> RowNumbers:
    """(n, width) -> (n,) the first row equal to each row."""
    if not len(values):
        return np.zeros(0, np.int64)
    _distinct, first, which = np.unique(values, axis=0, return_index=True, return_inverse=True)
    return first[which.reshape(-1)].astype(np.int64)
