"""Whether a collection holds what its photos say: listing, journal and Milvus beside each other."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from milvus_fghash.core.codes import differing_bits
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.tables.columns import OWN_ID, own_id
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.ingest.changes import Changes, PendingPhoto
from milvus_fghash.milvus.collection import HashCollection, count_rows
from milvus_fghash.milvus.errors import TIMEOUT, milvus_call
from milvus_fghash.milvus.expressions import MAX_IDS_PER_CALL, id_is_one_of
from milvus_fghash.milvus.rows import by_field
from milvus_fghash.search.search import SearchParams, search_codes
from milvus_fghash.state.journal import DELETED, Journal, JournalEntry

SHOWN: Final = 5
"""Examples of a finding that are given."""
FLIPPED_AT_MOST: Final = 1 / 16
"""Part of its bits in which the code of a photo may differ when it is encoded again: on another device or with another
version of ONNX Runtime outputs near zero fall to the other side."""


@dataclass(frozen=True)
class Finding:
    """What is not as it should be, and of how many photos."""

    count: int = 0
    examples: tuple[str, ...] = ()
    """Paths, or ids where no path is known."""
    ids: tuple[str, ...] = field(default=(), repr=False)
    own_ids: tuple[str, ...] = ()
    """Of the examples, those that the list of photos gave them; "" where there is none."""


@dataclass(frozen=True)
class Verification:
    """What was compared, and what was found."""

    photos: int
    """In the listing."""
    acknowledged: int
    """Photos of all listings of this collection that the journal has with a row."""
    rows: int
    """In the collection, rows that stand twice counted twice."""
    new_or_changed: int
    """Photos of the listing that an ingest would take in or try again."""
    unacknowledged: int
    """Of these, how many have a row all the same: its acknowledgement was lost, or the journal."""
    rejected: int
    """Photos of the listing that were rejected."""
    deleted: int
    """Photos of the listing whose row was deleted on purpose."""
    vanished: int
    """Photos with a row that the listing no longer has."""
    missing: Finding
    """Acknowledged, but there is no row."""
    extra: Finding
    """Rows of the namespace that neither the journal nor the listing knows, or that were to be deleted."""
    duplicates: Finding
    """Ids that stand in the collection more than once."""
    unlike: Finding
    """Rows made of another content than the one that was acknowledged."""
    sampled: int
    """Photos that were encoded again and searched for."""
    miscoded: Finding
    """Sampled photos whose row has another code."""
    not_found: Finding
    """Sampled photos that a search for the code of their row does not find at distance 0."""
    flipped_bits: float
    """Part of the sampled photos' bits that differ between their rows and today."""
    of_others: int
    """Of the missing and unlike ones, how many are not in this listing: to be repaired where theirs is verified."""

    @property
    def findings(self) -> dict[str, Finding]:
        """Those that can be wrong, by name."""
        names = ("missing", "extra", "duplicates", "unlike", "miscoded", "not_found")
        return {name: getattr(self, name) for name in names}

    @property
    def is_consistent(self) -> bool:
        """Whether nothing is wrong. New, rejected and vanished photos are not."""
        return not any(one.count for one in self.findings.values())


def verify(
    encoder: Encoder, collection: HashCollection, changes: Changes, sample: int = 100, seed: int = 0
) -> Verification:
    """Compare a listing, the journal and the collection. Nothing is written to Milvus.

    Memory grows with what is new, changed or wrong; the journal's own temporary tables lie on the disk.

    Args:
        changes: of the listing, not yet gone through.
        sample: photos of the listing that are encoded again, as far as they have a row, drawn with ``seed``.

    Raises:
        StoreError: when another model filled the collection, or Milvus rejects.
        DataError: when the journal cannot be read.
    """
    collection.check_model(encoder.bundle.manifest)
    journal = changes.journal
    new_or_changed = sum(isinstance(one, PendingPhoto) for one in changes.todo())
    dataset = changes.dataset
    extra, distinct, unacknowledged = _read_rows(collection, changes)
    rows = collection.count()
    missing, unlike = _of_entries(journal.without_row()), _of_entries(journal.with_other_content())
    wrong = [*missing.ids, *unlike.ids]
    looked_at = _look(encoder, dataset, collection, _drawn(changes, set(wrong), sample, seed))
    reasons = journal.reasons()
    deleted = reasons.pop(DELETED, 0)
    found = Verification(
        photos=len(dataset),
        acknowledged=journal.count_acknowledged(),
        rows=rows,
        new_or_changed=new_or_changed,
        unacknowledged=unacknowledged,
        rejected=sum(reasons.values()),
        deleted=deleted,
        vanished=len(changes.gone()),
        missing=missing,
        extra=extra,
        duplicates=_duplicates(collection) if rows != distinct else Finding(),
        unlike=unlike,
        sampled=looked_at.n_photos,
        miscoded=looked_at.miscoded,
        not_found=looked_at.not_found,
        flipped_bits=looked_at.flipped / max(1, looked_at.n_photos * collection.bits),
        of_others=len(wrong) - len(journal.seen(wrong)),
    )
    named: dict[str, Any] = {
        name: _with_own_ids(one, collection, changes) for name, one in found.findings.items() if one.count
    }
    return replace(found, **named)


def repair(collection: HashCollection, journal: Journal, found: Verification, *, delete_extra: bool = False) -> None:
    """Make the next ingest of the same listing write what is missing or wrong of it; rows that stand twice become one.

    Args:
        journal: as `verify` left it.
        delete_extra: delete the rows that nobody knows.

    Raises:
        StoreError: when Milvus rejects.
    """
    for start in range(0, len(found.duplicates.ids), MAX_IDS_PER_CALL):
        _write_once(collection, found.duplicates.ids[start : start + MAX_IDS_PER_CALL])
    if delete_extra:
        collection.delete(found.extra.ids)
    for one in (found.missing, found.unlike, found.miscoded, found.not_found):
        journal.forget(sorted(journal.seen(one.ids)))


def _write_once(collection: HashCollection, ids: Sequence[str]) -> None:
    """Upsert rows as they are, with all their columns: Milvus then has each once."""
    with milvus_call(f"cannot repair {collection.name}"):
        rows = collection.client.query(
            collection.name, id_is_one_of(ids), ["*"], consistency_level="Strong", timeout=TIMEOUT
        )
        once = {row["id"]: {**row, "code": row["code"][0]} for row in rows}  # a query gives a code as a list of one
        collection.write(by_field(list(once.values())))


def _read_rows(collection: HashCollection, changes: Changes) -> tuple[Finding, int, int]:
    """Note every row in the journal's temporary table.

    Returns:
        Rows that nobody knows, how many different ids there are, and how many of the listing's are not acknowledged.
    """
    journal = changes.journal
    paths: dict[str, str] = {}
    distinct = unacknowledged = 0
    journal.begin_rows()
    for rows in collection.scan():
        journal.add_rows(zip(rows.ids, rows.content_shas, strict=True))
        distinct += len(rows)
        acknowledged, welcome = journal.acknowledged(rows.ids), journal.seen_not_deleted(rows.ids)
        unacknowledged += len(welcome - acknowledged)
        for key, path, meta in zip(rows.ids, rows.paths, rows.metas, strict=True):
            if key not in acknowledged | welcome and meta.get("namespace", "") == changes.namespace:
                paths[key] = path
    return _finding(paths), distinct, unacknowledged


def _of_entries(entries: Iterable[JournalEntry]) -> Finding:
    return _finding({one.id: one.path for one in entries})


def _finding(paths: Mapping[str, str]) -> Finding:
    """Of ids and their paths."""
    ids = sorted(paths, key=lambda key: (paths[key], key))
    return Finding(len(paths), tuple(paths[key] for key in ids[:SHOWN]), tuple(ids))


def _with_own_ids(found: Finding, collection: HashCollection, changes: Changes) -> Finding:
    """As their rows say, or where there is none, the listing."""
    shown, paths = found.ids[:SHOWN], changes.dataset.paths
    rows = collection.get(shown)
    known = {key: own_id(meta) for key, meta in zip(rows.ids, rows.metas, strict=True)}
    listed = changes.dataset.extra_columns.values.get(OWN_ID)
    for key, path in zip(shown, found.examples, strict=True):
        if listed and key not in known and path in paths and changes.id(row := paths.index(path)) == key:
            known[key] = listed[row] or ""
    return replace(found, own_ids=tuple(known.get(key, "") for key in shown))


def _duplicates(collection: HashCollection) -> Finding:
    """Milvus reads an id that stands twice once, but counts it twice."""
    paths: dict[str, str] = {}
    for rows in collection.scan():
        path_of = dict(zip(rows.ids, rows.paths, strict=True))
        for key in _twice(collection, rows.ids):
            paths[key] = path_of[key]
    return _finding(paths)


def _twice(collection: HashCollection, ids: Sequence[str]) -> list[str]:
    """Those of the ids that stand more than once, by halving."""
    if count_rows(collection.client, collection.name, id_is_one_of(ids)) == len(ids):
        return []
    if len(ids) == 1:
        return list(ids)
    middle = len(ids) // 2
    return _twice(collection, ids[:middle]) + _twice(collection, ids[middle:])


def _drawn(changes: Changes, without: set[str], sample: int, seed: int) -> dict[int, str]:
    """Rows of the listing and their ids, in order."""
    rows = sorted(random.Random(seed).sample(range(len(changes.dataset)), min(sample, len(changes.dataset))))
    return {row: key for row in rows if (key := changes.id(row)) not in without}


@dataclass(frozen=True)
class _Looked:
    n_photos: int
    miscoded: Finding
    not_found: Finding
    flipped: int


def _look(encoder: Encoder, dataset: Dataset, collection: HashCollection, ids: Mapping[int, str]) -> _Looked:
    """Encode photos again, and search for the codes of their rows.

    Photos without a row, and files that are another than the one their row was made of, are left out.
    """
    stored = collection.get(list(ids.values()))
    code_of = dict(zip(stored.ids, stored.codes, strict=True))
    sha_of = dict(zip(stored.ids, stored.content_shas, strict=True))
    rows = [row for row, key in ids.items() if key in code_of]
    encoded = encoder.encode_files([dataset.source(row) for row in rows])
    same = [
        (place, ids[rows[at]])
        for place, (at, sha) in enumerate(zip(encoded.rows, encoded.content_shas, strict=True))
        if sha_of[ids[rows[at]]] == sha
    ]
    if not same:
        return _Looked(0, Finding(), Finding(), 0)
    keys = [key for _, key in same]
    path_of = {ids[row]: dataset.paths[row] for row in rows}
    of_rows = np.stack([code_of[key] for key in keys])
    differing = differing_bits(encoded.codes[[place for place, _ in same]], of_rows)
    miscoded = [key for key, bits in zip(keys, differing, strict=True) if bits > FLIPPED_AT_MOST * collection.bits]
    # All in one call: each finds those of the sample that have its code, itself among them.
    wanted = SearchParams(len(keys), id_is_one_of(keys), max_distance=0, consistency="Strong")
    answers = search_codes(collection, of_rows, wanted)
    found = [any(hit.id == key for hit in answer.hits) for key, answer in zip(keys, answers, strict=True)]
    return _Looked(
        len(keys),
        _finding({key: path_of[key] for key in miscoded}),
        _finding({key: path_of[key] for key, itself in zip(keys, found, strict=True) if not itself}),
        int(differing.sum()),
    )
