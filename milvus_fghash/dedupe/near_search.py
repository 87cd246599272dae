"""Find and delete duplicates in a collection: by the photos' perceptual hashes, and on request by near codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from milvus_fghash._version import __version__
from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.codes import code_bytes, hamming
from milvus_fghash.core.perceptual_hash import BITS, MAX_COPY_DISTANCE, NO_HASH, phash_to_hex
from milvus_fghash.datasets.tables.columns import own_id
from milvus_fghash.dedupe.grouping import Census, Kind, alike_by_phash, compare_locally, find_groups
from milvus_fghash.dedupe.report import Duplicates, Group, Keep, Member, copies, copies_of, tally
from milvus_fghash.dedupe.take_census import take_census, unchanged_phashes, with_phashes_of_photos
from milvus_fghash.dedupe.union_find import RowNumbers
from milvus_fghash.errors import ConfigError, Inconsistent, StoreError, TooManyDeleted
from milvus_fghash.ingest.delete import delete_ids
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.expressions import MAX_IDS_PER_CALL
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.search.search import ids_within, queries_per_call
from milvus_fghash.state.journal import Journal

MAX_NEIGHBOURS: Final = 256
"""Rows that Milvus returns around one code. A code with as many is compared with all codes locally instead."""
LARGE_GROUP_FRACTION: Final = 0.1
"""A warning is given when one near group holds at least this fraction of all rows,"""
LARGE_GROUP_SIZE: Final = 20
"""and more than this number of rows."""
DELETE_AT_MOST: Final = 0.1
"""Default limit of `delete_copies`: the fraction of all rows that may be deleted."""


def default_distance(bits: int) -> int:
    """The largest distance of near codes where no perceptual hash is known: an eighth of the bits, less 5.

    Short codes are near each other by chance. Among 3,000 birds this distance is careful for codes of LSH, but not for
    those of ITQ: docs/duplicates.md has precision and recall by distance.

    >>> [default_distance(bits) for bits in (12, 32, 48, 64, 128)]
    [0, 0, 1, 3, 11]
    """
    return max(0, bits // 8 - 5)


def find_duplicates(
    collection: HashCollection,
    max_distance: int | None = None,
    earlier: Duplicates | None = None,
    progress: Progress | None = None,
    *,
    confirm_within: int | None = None,
    photos: Sequence[Path] = (),
) -> Duplicates:
    """Groups of rows with equal contents, near perceptual hashes or, on request, near codes; strongly consistent.

    Memory: the id, the code and about 100 bytes per row. Rows written during the search may be missing in the result.

    Args:
        max_distance: also join rows whose codes differ in at most this number of bits. None: as in the earlier result;
            without one, codes are compared only if no perceptual hash is known, within `default_distance`.
        earlier: result of an earlier search in this collection; codes are searched for changes since then only.
        progress: called with photos that are read, tables of hashes, and codes.
        confirm_within: largest distance of the perceptual hashes of copies, in bits of 64. None: as in the earlier
            result, else `MAX_COPY_DISTANCE`.
        photos: folders that the rows' paths may be relative to. In collections that store no perceptual hashes, a row
            gets that of its photo, if the file is still the one that was ingested.

    Raises:
        ConfigError: when a distance is out of range, or the earlier result does not fit this search.
        StoreError: when Milvus rejects a call, or rows of a group were changed during the search.
    """
    bits = collection.bits
    if max_distance is not None and not 0 <= max_distance <= bits:
        raise ConfigError(f"the largest distance must be 0 to {bits}, the code length; got {max_distance}")
    if confirm_within is None:
        confirm_within = earlier.confirmed_within if earlier else MAX_COPY_DISTANCE
    if not 0 <= confirm_within <= BITS:
        raise ConfigError(f"the perceptual hashes of copies may differ in 0 to {BITS} bits, got {confirm_within}")
    progress = progress or (lambda done, total: None)
    metadata = collection.metadata
    before = None
    if earlier:
        max_distance = earlier.max_distance if max_distance is None else max_distance
        before = earlier.as_earlier(collection.name, metadata.fingerprint, max_distance, confirm_within)
    census = take_census(collection)
    read: dict[str, int] = {}
    if not collection.has_phash:
        known = unchanged_phashes(earlier, census) if earlier else {}
        census, read = with_phashes_of_photos(census, collection, known, photos, progress)
    n_without_phash = int((census.phashes == NO_HASH).sum())
    if max_distance is None and not earlier and n_without_phash == len(census):
        max_distance = default_distance(bits)
    near_search = None if max_distance is None else _NearSearch(collection, census, max_distance, progress)
    found = list(
        find_groups(
            census,
            alike_by_phash(census, confirm_within, progress),
            near_search.near if near_search else None,
            before,
        )
    )
    groups = tuple(_with_members(collection, census, found, confirm_within))
    return Duplicates(
        made_by=f"milvus-fghash {__version__}",
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        collection=collection.name,
        method=metadata.method,
        fingerprint=metadata.fingerprint,
        bits=bits,
        max_distance=max_distance,
        n_rows=len(census),
        n_searched=near_search.n_searched if near_search else 0,
        n_compared_locally=near_search.n_compared_locally if near_search else 0,
        exact=tally(groups, "exact"),
        near=tally(groups, "near"),
        confirmed_within=confirm_within,
        n_without_phash=n_without_phash,
        note=_note(groups, len(census), max_distance, n_without_phash),
        groups=groups,
        rows={key: census.fingerprint(row) for row, key in enumerate(census.ids)},
        phashes={key: phash_to_hex(phash) for key, phash in read.items()},
    )


class _NearSearch:
    """Searches Milvus for near rows, many codes per call, and counts."""

    def __init__(self, collection: HashCollection, census: Census, within: int, progress: Progress) -> None:
        self._collection, self._census, self._within, self._progress = collection, census, within, progress
        self.n_searched = self.n_compared_locally = 0

    def near(self, rows: RowNumbers) -> Iterator[tuple[int, list[int]]]:
        """`grouping.Near`."""
        position = self._census.positions
        neighbours_of = compare_locally(self._census, self._within)
        step = queries_per_call(MAX_NEIGHBOURS)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            found = ids_within(self._collection, self._census.codes[part], self._within, MAX_NEIGHBOURS)
            for row, ids in zip(part.tolist(), found, strict=True):
                self.n_searched += 1
                if len(ids) < MAX_NEIGHBOURS:
                    yield row, [position[key] for key in ids if key in position]  # others were written after the census
                else:
                    self.n_compared_locally += 1
                    yield row, neighbours_of(row).tolist()
            self._progress(start + len(part), len(rows))


def delete_copies(
    collection: HashCollection,
    found: Duplicates,
    kinds: Sequence[Kind],
    keep: Keep = "first",
    at_most: float = DELETE_AT_MOST,
    journal: Journal | None = None,
) -> int:
    """Delete the confirmed copies in groups of these kinds, and return their number.

    Args:
        at_most: fraction of all rows above which nothing is deleted, since the codes may not distinguish the photos.
        journal: of the collection; it records the deletion, so that no ingest writes the rows again.

    Raises:
        ConfigError: for an unknown kind or row to keep, or a fraction beyond 1.
        TooManyDeleted: when more than ``at_most`` would be deleted.
        Inconsistent: when rows were changed since they were compared; nothing is deleted.
        StoreError: when Milvus rejects a call.
    """
    if not 0 <= at_most <= 1:
        raise ConfigError(
            f"the fraction of the rows that may be deleted must be 0 to 1, got {at_most}", setting="delete_at_most"
        )
    pairs = copies_of(found.groups, kinds, keep, found.confirmed_within)
    redundant = sorted(pairs)
    if len(redundant) > at_most * found.n_rows:
        raise TooManyDeleted(
            f"{len(redundant):,} of {found.n_rows:,} rows of {collection.name} would be deleted, more than the allowed "
            f"fraction {at_most:g}, so nothing was deleted; check the groups, and allow more if they are right",
            setting="delete_at_most",
        )
    _check_unchanged_since(collection, found, pairs)
    return delete_ids(collection, redundant, yes=True, journal=journal).deleted


def _check_unchanged_since(collection: HashCollection, found: Duplicates, pairs: Mapping[str, Member]) -> None:
    """See that both rows of each pair exist and still have the contents that were compared."""
    then = {one.id: one.content_sha for group in found.groups for one in group.members}
    wanted = sorted({*pairs, *(kept.id for kept in pairs.values())})
    now: dict[str, str] = {}
    for start in range(0, len(wanted), MAX_IDS_PER_CALL):
        rows = collection.get(wanted[start : start + MAX_IDS_PER_CALL])
        now |= dict(zip(rows.ids, rows.content_shas, strict=True))
    if changed := [key for key in wanted if now.get(key) != then[key]]:
        raise Inconsistent(
            f"{len(changed):,} rows of the groups in {collection.name} were deleted or changed since the search for "
            "duplicates, so nothing was deleted; search again"
        )


def _with_members(
    collection: HashCollection,
    census: Census,
    found: list[tuple[Kind, RowNumbers]],
    confirm_within: int,
) -> Iterator[Group]:
    """The groups with their rows, in the order of `Duplicates.groups`."""
    parts = [(kind, [census.ids[row] for row in rows]) for kind, rows in found]
    wanted = sorted({key for _kind, ids in parts for key in ids})
    position = {key: row for row, key in enumerate(wanted)}
    rows = Rows.concatenate(
        [collection.get(wanted[start : start + MAX_IDS_PER_CALL]) for start in range(0, len(wanted), MAX_IDS_PER_CALL)],
        code_bytes(collection.bits),
    )
    _check_unchanged(collection, census, rows, wanted)
    groups = []
    for kind, ids in parts:
        order = sorted((rows.paths[position[key]], key, position[key]) for key in ids)
        at = [row for _path, _key, row in order]
        distances = hamming(rows.codes[at[:1]], rows.codes[at])[0].tolist()
        members = tuple(
            Member(
                id=rows.ids[row],
                path=rows.paths[row],
                label=rows.labels[row],
                content_sha=rows.content_shas[row],
                distance=distance,
                own_id=own_id(rows.metas[row]),
                phash=phash_to_hex(int(census.phashes[census.positions[rows.ids[row]]])),
            )
            for row, distance in zip(at, distances, strict=True)
        )
        confirmed = len(copies(members, confirm_within))
        groups.append(Group(kind=kind, distance=max(distances), members=members, confirmed=confirmed))
    yield from sorted(groups, key=lambda group: (group.kind, group.members[0].path, group.members[0].id))


def _check_unchanged(collection: HashCollection, census: Census, rows: Rows, wanted: list[str]) -> None:
    phashes = rows.phashes or [int(census.phashes[census.positions[key]]) for key in rows.ids]
    now = Census.of([(rows.ids, rows.codes, rows.content_shas, phashes)], code_bytes(collection.bits))
    before = [census.fingerprint(census.positions[key]) for key in wanted]
    if [now.fingerprint(row) for row in range(len(now))] != before:  # shorter if a row was deleted
        raise StoreError(f"rows of {collection.name} were changed during the search for duplicates; search again")


def _note(groups: Sequence[Group], n_rows: int, max_distance: int | None, n_without_phash: int) -> str:
    """Warnings for the user, or ""."""
    notes = []
    if n_rows and n_without_phash == n_rows:
        done = "equal files only" if max_distance is None else "equal files and near codes"
        notes.append(
            "no perceptual hash is known, since the collection stores none and no photo was found that is still the "
            f"one that was ingested; the groups are of {done}"
        )
    largest = max((len(group.members) for group in groups if group.kind == "near"), default=0)
    if largest > LARGE_GROUP_SIZE and largest >= LARGE_GROUP_FRACTION * n_rows:
        what, advice = "perceptual hashes", "a smaller distance"
        if max_distance is not None:
            what, advice = "codes", "a smaller distance of codes, or do not compare codes"
        notes.append(
            f"one near group holds {largest:,} of {n_rows:,} rows, so the {what} do not distinguish these photos at "
            f"this distance; use {advice}"
        )
    return "; ".join(notes)
