"""Verification and repair: compares photos, journal and collection."""

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

MAX_EXAMPLES: Final = 5
"""Examples in a finding."""
MAX_FLIPPED_BITS: Final = 1 / 16
"""Fraction of the bits of a code that may differ when its photo is encoded again: on another device or with another
version of ONNX Runtime, outputs near zero can change their sign."""


@dataclass(frozen=True)
class Finding:
    """One kind of inconsistency.

    Attributes:
        count: number of photos, or of rows.
        examples: paths of a few, or ids where no path is known.
        ids: primary keys of all.
        own_ids: the ids of the examples in the list of photos; "" where there is none.
    """

    count: int = 0
    examples: tuple[str, ...] = ()
    ids: tuple[str, ...] = field(default=(), repr=False)
    own_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """The comparison of photos, journal and collection.

    Attributes:
        photos: photos of the dataset.
        acknowledged: photos with a row according to the journal, of all datasets in the collection.
        rows: rows of the collection; duplicate rows are counted twice.
        new_or_changed: photos of the dataset that an ingest would read.
        unacknowledged: those of them that have a row nevertheless, because the acknowledgement or the journal was lost.
        rejected: photos of the dataset that were rejected.
        deleted: photos of the dataset whose rows were deleted by the user.
        vanished: photos with a row that the dataset no longer has.
        missing: acknowledged photos without a row.
        extra: rows of the namespace that neither the journal nor the dataset has, or that were deleted.
        duplicates: ids with more than one row.
        outdated: rows of another content than the acknowledged one.
        sampled: photos that were encoded again and searched for.
        miscoded: sampled photos whose row has another code.
        not_found: sampled photos that a search for the code of their row does not return at distance 0.
        flipped_bits: fraction of the bits of the sampled photos that differ between row and new code.
        in_other_datasets: number of missing and outdated photos of other datasets, to be repaired with those.
    """

    photos: int
    acknowledged: int
    rows: int
    new_or_changed: int
    unacknowledged: int
    rejected: int
    deleted: int
    vanished: int
    missing: Finding
    extra: Finding
    duplicates: Finding
    outdated: Finding
    sampled: int
    miscoded: Finding
    not_found: Finding
    flipped_bits: float
    in_other_datasets: int

    @property
    def findings(self) -> dict[str, Finding]:
        """The kinds of inconsistency, by name."""
        names = ("missing", "extra", "duplicates", "outdated", "miscoded", "not_found")
        return {name: getattr(self, name) for name in names}

    @property
    def is_consistent(self) -> bool:
        """Whether no inconsistency was found. New, rejected and vanished photos are none."""
        return not any(one.count for one in self.findings.values())


def verify(
    encoder: Encoder, collection: HashCollection, changes: Changes, sample: int = 100, seed: int = 0
) -> Verification:
    """Compare a dataset, the journal and the collection. Nothing is written to Milvus.

    Memory grows with the number of new, changed and inconsistent photos; the journal's temporary tables are on disk.

    Args:
        changes: of the dataset, not yet iterated.
        sample: photos that are encoded again where they have a row, drawn with ``seed``.

    Raises:
        StoreError: when another model filled the collection, or Milvus rejects a call.
        DataError: when the journal cannot be read.
    """
    collection.check_model(encoder.bundle.manifest)
    journal = changes.journal
    new_or_changed = sum(isinstance(one, PendingPhoto) for one in changes.todo())
    dataset = changes.dataset
    extra, distinct, unacknowledged = _read_rows(collection, changes)
    rows = collection.count()
    missing, outdated = _of_entries(journal.without_row()), _of_entries(journal.with_other_content())
    wrong = [*missing.ids, *outdated.ids]
    sampled = _check_sample(encoder, dataset, collection, _draw_sample(changes, set(wrong), sample, seed))
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
        outdated=outdated,
        sampled=sampled.n_photos,
        miscoded=sampled.miscoded,
        not_found=sampled.not_found,
        flipped_bits=sampled.flipped / max(1, sampled.n_photos * collection.bits),
        in_other_datasets=len(wrong) - len(journal.seen(wrong)),
    )
    named: dict[str, Any] = {
        name: _with_own_ids(one, collection, changes) for name, one in found.findings.items() if one.count
    }
    return replace(found, **named)


def repair(collection: HashCollection, journal: Journal, found: Verification, *, delete_extra: bool = False) -> None:
    """Make the next ingest of the same dataset rewrite its inconsistent rows, and remove duplicate rows.

    Args:
        journal: as `verify` left it.
        delete_extra: delete the extra rows.

    Raises:
        StoreError: when Milvus rejects a call.
    """
    for start in range(0, len(found.duplicates.ids), MAX_IDS_PER_CALL):
        _write_once(collection, found.duplicates.ids[start : start + MAX_IDS_PER_CALL])
    if delete_extra:
        collection.delete(found.extra.ids)
    for one in (found.missing, found.outdated, found.miscoded, found.not_found):
        journal.forget(sorted(journal.seen(one.ids)))


def _write_once(collection: HashCollection, ids: Sequence[str]) -> None:
    """Upsert rows unchanged, with all their columns, after which Milvus has each once."""
    with milvus_call(f"cannot repair {collection.name}"):
        rows = collection.client.query(
            collection.name, id_is_one_of(ids), ["*"], consistency_level="Strong", timeout=TIMEOUT
        )
        once = {row["id"]: {**row, "code": row["code"][0]} for row in rows}  # a query returns a code as a list of one
        collection.write(by_field(list(once.values())))


def _read_rows(collection: HashCollection, changes: Changes) -> tuple[Finding, int, int]:
    """Record every row in a temporary table of the journal.

    Returns:
        The extra rows, the number of distinct ids, and the number of rows of the dataset that are not acknowledged.
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
    """The finding of these ids; ``paths`` has the path of each."""
    ids = sorted(paths, key=lambda key: (paths[key], key))
    return Finding(len(paths), tuple(paths[key] for key in ids[:MAX_EXAMPLES]), tuple(ids))


def _with_own_ids(found: Finding, collection: HashCollection, changes: Changes) -> Finding:
    """Add own ids, from the rows, or from the dataset where there is no row."""
    shown, paths = found.ids[:MAX_EXAMPLES], changes.dataset.paths
    rows = collection.get(shown)
    known = {key: own_id(meta) for key, meta in zip(rows.ids, rows.metas, strict=True)}
    listed = changes.dataset.extra_columns.values.get(OWN_ID)
    for key, path in zip(shown, found.examples, strict=True):
        if listed and key not in known and path in paths and changes.id(row := paths.index(path)) == key:
            known[key] = listed[row] or ""
    return replace(found, own_ids=tuple(known.get(key, "") for key in shown))


def _duplicates(collection: HashCollection) -> Finding:
    """Milvus returns duplicate rows once, but counts them twice."""
    paths: dict[str, str] = {}
    for rows in collection.scan():
        path_of = dict(zip(rows.ids, rows.paths, strict=True))
        for key in _duplicated(collection, rows.ids):
            paths[key] = path_of[key]
    return _finding(paths)


def _duplicated(collection: HashCollection, ids: Sequence[str]) -> list[str]:
    """The ids with more than one row, by bisection."""
    if count_rows(collection.client, collection.name, id_is_one_of(ids)) == len(ids):
        return []
    if len(ids) == 1:
        return list(ids)
    middle = len(ids) // 2
    return _duplicated(collection, ids[:middle]) + _duplicated(collection, ids[middle:])


def _draw_sample(changes: Changes, without: set[str], sample: int, seed: int) -> dict[int, str]:
    """Positions in the dataset and ids of a random sample, in order."""
    rows = sorted(random.Random(seed).sample(range(len(changes.dataset)), min(sample, len(changes.dataset))))
    return {row: key for row in rows if (key := changes.id(row)) not in without}


@dataclass(frozen=True)
class _SampleResult:
    n_photos: int
    miscoded: Finding
    not_found: Finding
    flipped: int


def _check_sample(
    encoder: Encoder, dataset: Dataset, collection: HashCollection, ids: Mapping[int, str]
) -> _SampleResult:
    """Encode photos again, and search for the codes of their rows.

    Photos without a row, and photos whose content has changed since, are left out.
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
        return _SampleResult(0, Finding(), Finding(), 0)
    keys = [key for _, key in same]
    path_of = {ids[row]: dataset.paths[row] for row in rows}
    of_rows = np.stack([code_of[key] for key in keys])
    differing = differing_bits(encoded.codes[[place for place, _ in same]], of_rows)
    miscoded = [key for key, bits in zip(keys, differing, strict=True) if bits > MAX_FLIPPED_BITS * collection.bits]
    # One call for all: each query finds the sampled photos with its code, which must include itself.
    params = SearchParams(len(keys), id_is_one_of(keys), max_distance=0, consistency="Strong")
    answers = search_codes(collection, of_rows, params)
    found = [any(hit.id == key for hit in answer.hits) for key, answer in zip(keys, answers, strict=True)]
    return _SampleResult(
        len(keys),
        _finding({key: path_of[key] for key in miscoded}),
        _finding({key: path_of[key] for key, itself in zip(keys, found, strict=True) if not itself}),
        int(differing.sum()),
    )
