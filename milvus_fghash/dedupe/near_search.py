"""Find and delete duplicates in a collection: Milvus finds near codes, the photos' perceptual hashes confirm copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from milvus_fghash._version import __version__
from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.codes import code_bytes, hamming
from milvus_fghash.core.images import Preprocessing
from milvus_fghash.core.perceptual_hash import BITS, MAX_COPY_DISTANCE, NO_HASH, phash_to_hex
from milvus_fghash.datasets.tables.columns import own_id
from milvus_fghash.dedupe.grouping import Census, Kind, compare_locally, find_groups
from milvus_fghash.dedupe.report import Duplicates, Group, Keep, Member, copies, copies_of, tally
from milvus_fghash.dedupe.union_find import RowNumbers
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import Photo, decode
from milvus_fghash.errors import ConfigError, Inconsistent, StoreError, TooManyDeleted
from milvus_fghash.ingest.delete import delete_ids
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.expressions import MAX_IDS_PER_CALL
from milvus_fghash.milvus.rows import Rows, read_codes
from milvus_fghash.search.search import ids_within, photo_file, queries_per_call
from milvus_fghash.state.journal import Journal

MAX_NEIGHBOURS: Final = 256
"""Rows that Milvus returns around one code. A code with as many is compared with all codes locally instead."""
ROWS_PER_CALL: Final = 10_000
"""Rows read in one call; Milvus returns at most 16,384."""
LARGE_GROUP_FRACTION: Final = 0.1
"""A warning is given when one near group holds at least this fraction of all rows,"""
LARGE_GROUP_SIZE: Final = 20
"""and more than this number of rows."""
DELETE_AT_MOST: Final = 0.1
"""Default limit of `delete_copies`: the fraction of all rows that may be deleted."""


def default_distance(bits: int) -> int:
    """The default for the largest distance of near duplicates: an eighth of the bits, less 5.

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
    confirm_within: int = MAX_COPY_DISTANCE,
    photos: Sequence[Path] = (),
) -> Duplicates:
    """Groups of rows with equal contents or near codes; strongly consistent.

    Near codes make candidates; the perceptual hashes of the photos confirm copies among them. Memory: the id, the code
    and 24 bytes per row. Rows written during the search may or may not be in the result.

    Args:
        max_distance: in bits, inclusive. None: that of the earlier result, else `default_distance`.
        earlier: result of an earlier search in this collection; only changes since then are searched for.
        progress: called with codes, and then with photos that are read.
        confirm_within: largest distance of the perceptual hashes of confirmed copies, in bits of 64.
        photos: folders that the rows' paths may be relative to. A row without a perceptual hash, as in collections
            made before there were any, gets that of its photo, if the file is still the one that was ingested.

    Raises:
        ConfigError: when a distance is out of range, or the earlier result does not fit this search.
        StoreError: when Milvus rejects a call, or rows of a group were changed during the search.
    """
    bits = collection.bits
    default = earlier.max_distance if earlier else default_distance(bits)
    within = default if max_distance is None else max_distance
    if not 0 <= within <= bits:
        raise ConfigError(f"the largest distance must be 0 to {bits}, the code length; got {within}")
    if not 0 <= confirm_within <= BITS:
        raise ConfigError(f"the perceptual hashes of copies may differ in 0 to {BITS} bits, got {confirm_within}")
    metadata = collection.metadata
    known = earlier.as_earlier(collection.name, metadata.fingerprint, within) if earlier else None
    census = take_census(collection)
    near_search = _NearSearch(collection, census, within, progress)
    found = list(find_groups(census, near_search.near, known))
    groups = tuple(_with_members(collection, census, found, confirm_within, photos, progress))
    near = {one.id: one.phash for group in groups if group.kind == "near" for one in group.members}
    return Duplicates(
        made_by=f"milvus-fghash {__version__}",
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        collection=collection.name,
        method=metadata.method,
        fingerprint=metadata.fingerprint,
        bits=bits,
        max_distance=within,
        n_rows=len(census),
        n_searched=near_search.n_searched,
        n_compared_locally=near_search.n_compared_locally,
        exact=tally(groups, "exact"),
        near=tally(groups, "near"),
        confirmed_within=confirm_within,
        n_without_phash=sum(not phash for phash in near.values()),
        note=_large_group_warning(groups, len(census)),
        groups=groups,
        rows={key: census.fingerprint(row) for row, key in enumerate(census.ids)},
    )


def take_census(collection: HashCollection) -> Census:
    """Id, code and content of every row."""
    pages = collection.pages(["id", "code", "content_sha"], ROWS_PER_CALL)
    return Census.of(
        (
            (
                [one["id"] for one in page],
                read_codes(page, collection.bits),
                [one["content_sha"] for one in page],
            )
            for page in pages
        ),
        code_bytes(collection.bits),
    )


class _NearSearch:
    """Searches Milvus for near rows, many codes per call, and counts."""

    def __init__(self, collection: HashCollection, census: Census, within: int, progress: Progress | None) -> None:
        self._collection, self._census, self._within = collection, census, within
        self._progress = progress or (lambda done, total: None)
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
    photos: Sequence[Path],
    progress: Progress | None,
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
    phashes = list(rows.phashes_or_unknown)
    near = {position[key] for kind, ids in parts if kind == "near" for key in ids}
    unknown = sorted(row for row in near if phashes[row] == NO_HASH)
    for row, phash in _read_phashes(rows, unknown, photos, progress):
        phashes[row] = phash
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
                phash=phash_to_hex(phashes[row]),
            )
            for row, distance in zip(at, distances, strict=True)
        )
        confirmed = len(copies(members, confirm_within))
        groups.append(Group(kind=kind, distance=max(distances), members=members, confirmed=confirmed))
    yield from sorted(groups, key=lambda group: (group.kind, group.members[0].path, group.members[0].id))


def _check_unchanged(collection: HashCollection, census: Census, rows: Rows, wanted: list[str]) -> None:
    now = Census.of([(rows.ids, rows.codes, rows.content_shas)], code_bytes(collection.bits))
    before = [census.fingerprint(census.positions[key]) for key in wanted]
    if [now.fingerprint(row) for row in range(len(now))] != before:  # shorter if a row was deleted
        raise StoreError(f"rows of {collection.name} were changed during the search for duplicates; search again")


def _read_phashes(
    rows: Rows, wanted: Sequence[int], folders: Sequence[Path], progress: Progress | None = None
) -> Iterator[tuple[int, int]]:
    """Row number and perceptual hash of the ``wanted`` rows whose photo is in a folder and unchanged since ingestion.

    The first folder that has the photo counts.

    Raises:
        ConfigError: when the decoder processes do not start.
    """
    left = [row for row in wanted if rows.content_shas[row]]
    for folder in folders:
        file_of = {row: file for row in left if (file := photo_file(folder, rows.paths[row]))}
        found = set()
        with closing(decode(file_of.values(), Preprocessing(), DecodeOptions().for_photos(len(file_of)))) as photos:
            for done, (row, photo) in enumerate(zip(file_of, photos, strict=True), 1):
                if isinstance(photo, Photo) and photo.content_sha == rows.content_shas[row]:
                    found.add(row)
                    yield row, photo.phash
                if progress:
                    progress(done, len(file_of))
        left = [row for row in left if row not in found]


def _large_group_warning(groups: tuple[Group, ...], n_rows: int) -> str:
    """A warning when one near group holds a large part of the collection; else ""."""
    largest = max((len(group.members) for group in groups if group.kind == "near"), default=0)
    if largest <= LARGE_GROUP_SIZE or largest < LARGE_GROUP_FRACTION * n_rows:
        return ""
    return (
        f"one near group holds {largest:,} of {n_rows:,} rows, so the codes do not distinguish these photos at this "
        "distance; use a smaller distance, or longer codes of a method that does not learn classes, such as lsh"
    )
