"""Evaluate a bundle on photos, or the codes in a Milvus collection.

Gallery and queries are encoded by the bundle, exactly as in production. Codes of a collection are read from Milvus and
measured by the same NumPy code; for some queries, the distances that Milvus returns are compared with NumPy's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Final

import numpy as np

from milvus_fghash.bundle.bundle import LearnedCodes
from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.codes import Codes, code_bytes, hamming
from milvus_fghash.datasets.dataset import Dataset, split_names
from milvus_fghash.encoding.decode_options import DEFAULT_DECODE_OPTIONS, DecodeOptions
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import DataError, StoreError
from milvus_fghash.evaluation.record import CUTOFFS, Evaluation, EvaluationRecord, GalleryKind, Subject, evaluate_codes
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import probe
from milvus_fghash.search.search import SearchParams, search_codes

HITS_CHECKED: Final = 100
"""Hits whose distances are compared, for each query that Milvus searches too."""
MAX_REJECTED_LOGGED: Final = 20
"""Rejected photos of a split that are logged by name."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Coded:
    """Codes and classes of photos, and the number of rejected photos."""

    codes: Codes
    labels: tuple[str, ...]
    shas: tuple[str, ...] = ()
    """SHA-256 of each file; in a collection "" where it is unknown."""
    rejected: int = 0

    def take(self, rows: Sequence[int]) -> _Coded:
        return _Coded(
            self.codes[rows],
            tuple(self.labels[row] for row in rows),
            tuple(self.shas[row] for row in rows),
            self.rejected,
        )


def evaluate_bundle(
    encoder: Encoder,
    dataset: Dataset,
    *,
    dataset_name: str,
    gallery_split: str = "train",
    query_split: str = "test",
    options: DecodeOptions = DEFAULT_DECODE_OPTIONS,
    cutoffs: Sequence[int] = CUTOFFS,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Encode both splits and evaluate them; and the learned codes, if the bundle has some of these photos.

    Args:
        cutoffs: the k of precision@k and recall@k.
        progress: called with the encoded photos of a split.

    Raises:
        DataError: when a split is missing or empty, the splits overlap, a query has no class, or a learned code has
            another class than its photo.
    """
    if both := set(split_names(query_split)) & set(split_names(gallery_split)):
        raise DataError(
            f"the split {min(both)!r} is used for both queries and gallery, so each photo would find itself; choose "
            "different splits",
            setting="query_split gallery_split",
        )
    stored = dataset.split(gallery_split)
    queries = _encode(encoder, dataset.split(query_split), options, "query", progress)
    gallery = _encode(encoder, stored, options, "gallery", progress)
    subject = _subject(encoder, dataset_name, gallery_split, query_split)
    encoded = _record(queries, gallery, subject, "encoded", "network", cutoffs)
    learned = encoder.bundle.learned()
    if learned is None:
        return Evaluation(encoded=encoded, learned_absent=f"{subject.method} does not learn codes of training photos")
    kept = _learned_gallery(learned, stored)
    if not kept.labels:
        reason = f"none of the {len(learned.ids):,} learned codes is of a photo in the split {gallery_split!r}"
        return Evaluation(encoded=encoded, learned_absent=reason)
    matched = f"{len(kept.labels):,} of {len(learned.ids):,} learned codes match the {len(stored):,} photos"
    record = _record(queries, kept, subject, "learned", f"{learned.source} ({matched})", cutoffs)
    return Evaluation(encoded=encoded, learned=record)


def evaluate_collection(
    collection: HashCollection,
    encoder: Encoder,
    dataset: Dataset,
    *,
    dataset_name: str,
    query_split: str = "test",
    filter: str = "",
    checked_queries: int = 32,
    options: DecodeOptions = DEFAULT_DECODE_OPTIONS,
    cutoffs: Sequence[int] = CUTOFFS,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Evaluate with the rows of a collection as gallery and photos of a dataset as queries.

    Rows with the file of a query are left out, as the query would find itself; the record counts them.

    Args:
        filter: Milvus expression; only matching rows are the gallery.
        checked_queries: number of queries, evenly spread, that Milvus searches too; its distances must equal NumPy's.
        cutoffs: the k of precision@k and recall@k.
        progress: called with the encoded queries.

    Raises:
        StoreError: when another model filled the collection, no row matches, rows change in the meantime, or the
            distances of Milvus differ from NumPy's.
        DataError: when the split is missing, or a query has no class.
        ConfigError: when the filter cannot be parsed.
    """
    collection.check_model(encoder.bundle.manifest)
    collection.check_filter(filter)  # before all photos are encoded
    queries = _encode(encoder, dataset.split(query_split), options, "query", progress)
    ids, gallery = _read(collection, filter)
    rows = np.unique(np.linspace(0, len(queries.codes) - 1, min(checked_queries, len(queries.codes))).astype(int))
    compared = check_distances(collection, queries.codes[rows], ids, gallery.codes, filter)
    subject = _subject(encoder, dataset_name, filter or "all rows", query_split)
    able = probe(collection.client)
    versions = {
        **subject.versions,
        "milvus": f"{able.kind} {able.version}, {collection.index}",
        "pymilvus": metadata.version("pymilvus"),
    }
    source = (
        f"network, read from the Milvus collection {collection.name} in the order of its ids; "
        f"{compared:,} distances of {len(rows)} queries searched in Milvus equal NumPy's"
    )
    own = set(queries.shas)
    others = [row for row, sha in enumerate(gallery.shas) if sha not in own]
    if not others:
        raise StoreError(
            f"every row of {collection.name} is a photo of the split {query_split!r}, so each query would find itself; "
            "ingest other photos, or choose other queries",
            setting="query_split",
        )
    if len(others) < len(gallery.shas):
        source += f"; {len(gallery.shas) - len(others):,} rows with the file of a query are left out"
    record = _record(
        queries, gallery.take(others), subject.model_copy(update={"versions": versions}), "encoded", source, cutoffs
    )
    return Evaluation(encoded=record, learned_absent="a collection has encoded codes only")


def check_distances(
    collection: HashCollection, queries: Codes, ids: Sequence[str], gallery: Codes, filter: str = ""
) -> int:
    """Search ``queries`` in Milvus and compare the nearest distances with NumPy's; returns their number.

    Args:
        ids: (n_gallery,) ids of the rows that match ``filter``.
        gallery: (n_gallery, n_bytes) their codes.

    Raises:
        StoreError: when a distance differs, or a row is missing or unexpected.
    """
    if not len(queries):
        return 0
    k = min(HITS_CHECKED, len(ids))
    params = SearchParams(k=k, filter=filter, nprobe=collection.nlist, consistency="Strong")  # all clusters: exact
    position = {key: row for row, key in enumerate(ids)}
    distances = hamming(queries, gallery)
    compared = 0
    for own, found in zip(distances, search_codes(collection, queries, params), strict=True):
        given = [hit.distance for hit in found.hits]
        new = [hit.id for hit in found.hits if hit.id not in position]
        if new:
            raise StoreError(f"{collection.name} was changed during the evaluation: row {new[0]} is new; try again")
        each = [int(own[position[hit.id]]) for hit in found.hits]
        nearest = np.sort(own)[:k].tolist()
        if not given == each == nearest:
            raise StoreError(
                f"Milvus and NumPy disagree on distances in {collection.name}: Milvus returned {given[:5]}..., "
                f"these rows are at {each[:5]}..., the nearest at {nearest[:5]}...; rows of wrong width were written, "
                "or the collection was changed. Ingest into a new collection"
            )
        compared += k
    return compared


def _read(collection: HashCollection, filter: str) -> tuple[tuple[str, ...], _Coded]:
    """Ids, codes and classes of the matching rows, ordered by id so that the gallery is reproducible."""
    ids: list[str] = []
    labels: list[str] = []
    shas: list[str] = []
    parts: list[Codes] = [np.zeros((0, code_bytes(collection.bits)), np.uint8)]
    for rows in collection.scan(filter=filter):
        ids.extend(rows.ids)
        labels.extend(rows.labels)
        shas.extend(rows.content_shas)
        parts.append(rows.codes)
    if not ids:
        raise StoreError(
            f"no row of {collection.name} matches {filter}" if filter else f"{collection.name} is empty; ingest photos"
        )
    if len(set(ids)) != len(ids) or (not filter and collection.count() != len(ids)):
        raise StoreError(f"{collection.name} was changed while it was read; try again when nothing is written to it")
    order = sorted(range(len(ids)), key=ids.__getitem__)
    read = _Coded(np.concatenate(parts), tuple(labels), tuple(shas))
    return tuple(ids[row] for row in order), read.take(order)


def _encode(encoder: Encoder, photos: Dataset, options: DecodeOptions, role: str, progress: Progress) -> _Coded:
    encoded = encoder.encode_files([photos.source(row) for row in range(len(photos))], options, progress=progress)
    if not len(encoded.codes):
        first = encoded.rejected[0]
        raise DataError(f"none of the {len(photos)} {role} photos can be read; the first: {first.message}")
    for rejected in encoded.rejected[:MAX_REJECTED_LOGGED]:
        log.warning("%s photo %s rejected (%s): %s", role, rejected.path, rejected.reason, rejected.message)
    if len(encoded.rejected) > MAX_REJECTED_LOGGED:
        log.warning("and %d more %s photos", len(encoded.rejected) - MAX_REJECTED_LOGGED, role)
    return _Coded(encoded.codes, photos.take(encoded.rows).labels, encoded.content_shas, len(encoded.rejected))


def _learned_gallery(learned: LearnedCodes, stored: Dataset) -> _Coded:
    """The learned codes of the photos of a dataset, in the order of the dataset."""
    position = {key: row for row, key in enumerate(learned.ids)}
    known = [(row, position[key]) for row, key in enumerate(stored.ids) if key in position]
    for row, at in known:
        if stored.labels[row] != learned.labels[at]:
            raise DataError(
                f"photo {stored.ids[row]} has the class {stored.labels[row]!r} in the dataset and "
                f"{learned.labels[at]!r} in the bundle; evaluate with the dataset the model was trained on"
            )
    return _Coded(learned.codes[[at for _, at in known]], tuple(stored.labels[row] for row, _ in known))


def _record(
    queries: _Coded, gallery: _Coded, subject: Subject, kind: GalleryKind, source: str, cutoffs: Sequence[int]
) -> EvaluationRecord:
    return evaluate_codes(
        queries.codes,
        queries.labels,
        gallery.codes,
        gallery.labels,
        subject.model_copy(update={"rejected_gallery": gallery.rejected, "rejected_queries": queries.rejected}),
        gallery=kind,
        gallery_source=source,
        cutoffs=cutoffs,
    )


def _subject(encoder: Encoder, dataset_name: str, gallery_split: str, query_split: str) -> Subject:
    import onnxruntime

    manifest = encoder.bundle.manifest
    return Subject(
        method=manifest.method,
        bits=manifest.bits,
        fingerprint=manifest.fingerprint,
        lineage=manifest.lineage,
        dataset=dataset_name,
        gallery_split=gallery_split,
        query_split=query_split,
        versions={"onnxruntime": f"{onnxruntime.__version__}, {encoder.provider}"},
    )
