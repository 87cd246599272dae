"""Duplicates in a collection: Milvus says which rows are near, `dedupe/grouping.py` what follows from it."""

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
from milvus_fghash.dedupe.grouping import Census, Kind, compare_here, find_groups
from milvus_fghash.dedupe.photo_hashes import read_phashes
from milvus_fghash.dedupe.report import Duplicates, Group, Keep, Member, copies, copies_of, tally
from milvus_fghash.dedupe.union_find import RowNumbers
from milvus_fghash.errors import ConfigError, Inconsistent, StoreError, TooManyDeleted
from milvus_fghash.ingest.delete import delete_ids
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.expressions import MAX_IDS_PER_CALL
from milvus_fghash.milvus.rows import Rows, read_codes
from milvus_fghash.search.search import ids_within, queries_a_call
from milvus_fghash.state.journal import Journal

HITS: Final = 256
"""Rows asked for around one code. A code with as many near is compared with all codes here: nothing is cut off."""
ROWS_PER_PAGE: Final = 10_000
"""Rows read in one call; Milvus gives 16,384 at most."""
CROWDED: Final = 0.1
"""Share of all rows in one near group from which on the codes are doubted."""
FEW: Final = 20
"""A smaller near group is never doubted, whatever its share."""
DELETE_AT_MOST: Final = 0.1
"""Fraction of the rows that duplicates may be for `delete_copies` to delete them."""


def default_distance(bits: int) -> int:
    """The largest distance of near duplicates where none is given: an eighth of the bits, less 5.

    Chance brings codes the nearer to each other the shorter they are, and the more of them there are. Among 3,000 birds
    this is careful for codes of LSH and not for those of ITQ: docs/duplicates.md has precision and recall by distance.

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
    """Groups of rows with equal contents or near codes; reads what was just written.

    Near codes make candidates. Those are confirmed by the perceptual hashes of the photos, whatever made the codes.

    In memory are the id, the code and 16 bytes of every row, and 8 bytes for the groups. Rows that are written
    meanwhile are in the result or not.

    Args:
        max_distance: in bits, that one included; None means that of the earlier result, else `default_distance`.
        earlier: result of an earlier search in this collection; only what changed since then is searched.
        progress: called with the number of codes done, and of all; then of photos, where any are read.
        confirm_within: largest distance of the perceptual hashes of confirmed copies, in bits of 64.
        photos: folders that the rows' paths may be relative to. Where a row has no perceptual hash, as in a collection
            made before there were any, that of its photo is taken, if the photo is still the one the row was made of.

    Raises:
        ConfigError: when a distance is out of range, or the earlier result is about something else.
        StoreError: when Milvus rejects, or rows of a group changed meanwhile.
    """
    bits = collection.bits
    usual = earlier.max_distance if earlier else default_distance(bits)
    within = usual if max_distance is None else max_distance
    if not 0 <= within <= bits:
        raise ConfigError(f"the largest distance must be 0 to {bits}, the bits of a code; got {within}")
    if not 0 <= confirm_within <= BITS:
        raise ConfigError(f"perceptual hashes of copies may differ in 0 to {BITS} bits; got {confirm_within}")
    metadata = collection.metadata
    known = earlier.as_earlier(collection.name, metadata.fingerprint, within) if earlier else None
    census = take_census(collection)
    asking = _Asking(collection, census, within, progress)
    found = list(find_groups(census, asking.near, known))
    groups = tuple(_described(collection, census, found, confirm_within, photos, progress))
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
        n_searched=asking.n_searched,
        n_compared_here=asking.n_compared_here,
        exact=tally(groups, "exact"),
        near=tally(groups, "near"),
        confirmed_within=confirm_within,
        n_without_phash=sum(not phash for phash in near.values()),
        note=_doubt(groups, len(census)),
        groups=groups,
        rows={key: census.mark(row) for row, key in enumerate(census.ids)},
    )


def take_census(collection: HashCollection) -> Census:
    """Id, code and content of every row."""
    pages = collection.pages(["id", "code", "content_sha"], ROWS_PER_PAGE)
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


class _Asking:
    """Asks Milvus which rows are near, many at a time, and counts."""

    def __init__(self, collection: HashCollection, census: Census, within: int, progress: Progress | None) -> None:
        self._collection, self._census, self._within = collection, census, within
        self._progress = progress or (lambda done, total: None)
        self.n_searched = self.n_compared_here = 0

    def near(self, rows: RowNumbers) -> Iterator[tuple[int, list[int]]]:
        """What `duplicates.Near` is."""
        position = self._census.positions
        here = compare_here(self._census, self._within)
        step = queries_a_call(HITS)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            found = ids_within(self._collection, self._census.codes[part], self._within, HITS)
            for row, ids in zip(part.tolist(), found, strict=True):
                self.n_searched += 1
                if len(ids) < HITS:
                    yield row, [position[key] for key in ids if key in position]  # else it was written a moment ago
                else:
                    self.n_compared_here += 1
                    yield row, here(row).tolist()
            self._progress(start + len(part), len(rows))


def delete_copies(
    collection: HashCollection,
    found: Duplicates,
    kinds: Sequence[Kind],
    keep: Keep = "first",
    at_most: float = DELETE_AT_MOST,
    journal: Journal | None = None,
) -> int:
    """Delete all rows of groups of these kinds that are confirmed copies of rows that stay; how many there were.

    Args:
        at_most: fraction of the rows above which nothing is deleted: codes that tell too little look like that.
        journal: of the collection; it is told, so that no ingest brings the rows back.

    Raises:
        ConfigError: for another kind or row to keep than there are, or a fraction beyond 1.
        TooManyDeleted: when more than ``at_most`` would go.
        Inconsistent: when rows that stay, or that would go, have changed since they were searched; nothing is deleted.
        StoreError: when Milvus rejects.
    """
    if not 0 <= at_most <= 1:
        raise ConfigError(
            f"the fraction of the rows that may go must be 0 to 1, got {at_most}", setting="delete_at_most"
        )
    pairs = copies_of(found.groups, kinds, keep, found.confirmed_within)
    spare = sorted(pairs)
    if len(spare) > at_most * found.n_rows:
        raise TooManyDeleted(
            f"{len(spare):,} of {found.n_rows:,} rows of {collection.name} would go, more than the fraction "
            f"{at_most:g} that may, so nothing was deleted: look at the groups, and allow more if they are right",
            setting="delete_at_most",
        )
    _check_still_there(collection, found, pairs)
    return delete_ids(collection, spare, yes=True, journal=journal).deleted


def _check_still_there(collection: HashCollection, found: Duplicates, pairs: Mapping[str, Member]) -> None:
    """A row goes only if that which stays is there, and both are still of the contents that were compared."""
    then = {one.id: one.content_sha for group in found.groups for one in group.members}
    wanted = sorted({*pairs, *(stays.id for stays in pairs.values())})
    now: dict[str, str] = {}
    for start in range(0, len(wanted), MAX_IDS_PER_CALL):
        rows = collection.get(wanted[start : start + MAX_IDS_PER_CALL])
        now |= dict(zip(rows.ids, rows.content_shas, strict=True))
    if changed := [key for key in wanted if now.get(key) != then[key]]:
        raise Inconsistent(
            f"{len(changed):,} rows of groups in {collection.name} were deleted or changed since duplicates were "
            "searched for, so nothing was deleted; search again"
        )


def _described(
    collection: HashCollection,
    census: Census,
    found: list[tuple[Kind, RowNumbers]],
    confirm_within: int,
    photos: Sequence[Path],
    progress: Progress | None,
) -> Iterator[Group]:
    """Groups with what people want to know of their rows, in the order that the document has."""
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
    for row, phash in read_phashes(rows, unknown, photos, progress):
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
    before = [census.mark(census.positions[key]) for key in wanted]
    if [now.mark(row) for row in range(len(now))] != before:  # a row that is gone makes it shorter
        raise StoreError(f"rows of {collection.name} were changed while it was searched for duplicates; search again")


def _doubt(groups: tuple[Group, ...], n_rows: int) -> str:
    """What to say when one near group swallows a good part of the collection."""
    largest = max((len(group.members) for group in groups if group.kind == "near"), default=0)
    if largest <= FEW or largest < CROWDED * n_rows:
        return ""
    return (
        f"one near group holds {largest:,} of {n_rows:,} rows: at this distance the codes cannot tell these photos "
        "apart. Take a smaller distance, or longer codes of a method that learns no classes, such as lsh"
    )
