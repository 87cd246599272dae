"""Evaluate a bundle on photos, or the codes in a Milvus collection.

Gallery and queries are encoded by the bundle, exactly as in production. Codes of a collection are read from Milvus and
measured by the same NumPy code; for some queries, the distances that Milvus returns are compared with NumPy's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from importlib import metadata
from typing import Final

import numpy as np

from milvus_fghash.bundle.bundle import Bundle
from milvus_fghash.bundle.training_photos import TrainingPhotos
from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.codes import Codes, code_bytes, hamming
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.decode_options import DEFAULT_DECODE_OPTIONS, DecodeOptions
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import DataError, StoreError
from milvus_fghash.evaluation.coded_photos import CodedPhotos, encode_dataset, encode_once
from milvus_fghash.evaluation.metrics import OwnRows
from milvus_fghash.evaluation.record import CUTOFFS, Evaluation, EvaluationRecord, GalleryKind, Subject, evaluate_codes
from milvus_fghash.evaluation.training_overlap import TrainingOverlap, training_overlap
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import probe
from milvus_fghash.search.search import SearchParams, search_codes

HITS_CHECKED: Final = 100
"""Hits whose distances are compared, for each query that Milvus searches too."""
ALL_PHOTOS: Final = "all photos"
"""Name of the one split of a dataset that has none."""
log = logging.getLogger(__name__)


def evaluate_bundle(
    encoder: Encoder,
    dataset: Dataset,
    *,
    dataset_name: str,
    gallery_split: str = "train",
    query_split: str = "test",
    further_galleries: Sequence[str] = (),
    options: DecodeOptions = DEFAULT_DECODE_OPTIONS,
    cutoffs: Sequence[int] = CUTOFFS,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Encode both splits and evaluate them; and the learned codes, if the bundle has some of these photos.

    A query that is in the gallery does not find itself. So if both splits are the same, each photo is a query against
    all others (leave-one-out); a dataset without splits is evaluated in this way.

    Args:
        gallery_split: split of the gallery, or several separated by commas. Of a split that was not trained on, the
            photos are new ones (protocol B).
        query_split: split of the queries, likewise. Photos without a class are not queries.
        further_galleries: splits of further galleries, which are evaluated with the same queries.
        cutoffs: the k of precision@k and recall@k.
        progress: called with the encoded photos and their total.

    Raises:
        DataError: when a split is missing or empty, no query has a class, or a learned code has another class than its
            photo.
    """
    if not any(dataset.splits):
        query_split, gallery_split, further_galleries = ALL_PHOTOS, ALL_PHOTOS, ()
    names = dict.fromkeys((query_split, gallery_split, *further_galleries))
    wanted = {name: dataset if name == ALL_PHOTOS else dataset.split(name) for name in names}
    _check_classes(wanted[query_split].labels)
    coded = encode_once(encoder, dataset, wanted, query_split, options, progress)
    asking, trained = coded.photos(wanted[query_split]), encoder.bundle.training_photos()

    def record(split: str) -> EvaluationRecord:
        gallery = coded.photos(wanted[split])
        queries = _with_class(asking, gallery.row_of)
        own_rows = np.array([gallery.row_of.get(key, -1) for key in queries.ids], np.int64)
        inside = int((own_rows >= 0).sum())
        return _record(
            queries,
            gallery,
            _subject(encoder, dataset_name, split, query_split),
            "encoded",
            f"network; {inside:,} queries are in the gallery and do not find themselves" if inside else "network",
            cutoffs,
            own_rows=own_rows if inside else None,
            trained=trained,
        )

    encoded, *further = map(record, dict.fromkeys((gallery_split, *further_galleries)))
    kept, reason = _learned_gallery(encoder.bundle, wanted[gallery_split], set(asking.ids))
    if kept is None:
        return Evaluation(encoded=encoded, further=tuple(further), learned_absent=reason)
    subject = _subject(encoder, dataset_name, gallery_split, query_split)
    learned = _record(asking, kept, subject, "learned", reason, cutoffs, trained=trained)
    return Evaluation(encoded=encoded, further=tuple(further), learned=learned)


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
    asking = dataset.split(query_split)
    _check_classes(asking.labels)
    queries = encode_dataset(encoder, asking, options, "query", progress)
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
    trained = encoder.bundle.training_photos()
    subject = subject.model_copy(update={"versions": versions})
    record = _record(queries, gallery.take(others), subject, "encoded", source, cutoffs, trained=trained)
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


def _read(collection: HashCollection, filter: str) -> tuple[tuple[str, ...], CodedPhotos]:
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
    read = CodedPhotos(np.concatenate(parts), tuple(labels), tuple(shas))
    return tuple(ids[row] for row in order), read.take(order)


def _with_class(queries: CodedPhotos, gallery: Mapping[str, int]) -> CodedPhotos:
    """Without queries that have no class but are in the gallery: they are in the gallery only."""
    rows = [row for row, key in enumerate(queries.ids) if queries.labels[row] or key not in gallery]
    _check_classes([queries.labels[row] for row in rows])
    return replace(queries.take(rows), rejected=queries.rejected)


def _check_classes(labels: Sequence[str]) -> None:
    """Reject queries of which none has a class; before they are encoded, which may take hours.

    Raises:
        DataError: when no query has one.
    """
    if not any(labels):
        raise DataError(
            "none of the query photos has a class, and evaluation counts hits of the same class. Put the photos into "
            "folders named by class, or give a list with the column 'label'"
        )


def _learned_gallery(bundle: Bundle, stored: Dataset, queries: AbstractSet[str]) -> tuple[CodedPhotos | None, str]:
    """The learned codes of the photos of a dataset, in its order, and their source; or why there are none."""
    learned = bundle.learned()
    if learned is None:
        return None, f"{bundle.manifest.method} does not learn codes of training photos"
    where = f"the split {stored.selected_splits!r}" if stored.selected_splits else "the dataset"
    position = {key: row for row, key in enumerate(learned.ids)}
    known = [(row, position[key]) for row, key in enumerate(stored.ids) if key in position]
    if not known:
        return None, f"none of the {len(learned.ids):,} learned codes is of a photo in {where}"
    if queries & set(stored.ids):
        return None, f"the queries are photos of {where} themselves, whose learned codes were made with their labels"
    for row, at in known:
        if stored.labels[row] != learned.labels[at]:
            raise DataError(
                f"photo {stored.ids[row]} has the class {stored.labels[row]!r} in the dataset and "
                f"{learned.labels[at]!r} in the bundle; evaluate with the dataset the model was trained on"
            )
    matched = f"{len(known):,} of {len(learned.ids):,} learned codes match the {len(stored):,} photos"
    kept = CodedPhotos(learned.codes[[at for _, at in known]], tuple(stored.labels[row] for row, _ in known))
    return kept, f"{learned.source} ({matched})"


def _record(
    queries: CodedPhotos,
    gallery: CodedPhotos,
    subject: Subject,
    kind: GalleryKind,
    source: str,
    cutoffs: Sequence[int],
    *,
    own_rows: OwnRows | None = None,
    trained: TrainingPhotos | None = None,
) -> EvaluationRecord:
    floats = None
    if queries.embedding is not None and gallery.embedding is not None:
        floats = queries.embedding, gallery.embedding
    return evaluate_codes(
        queries.codes,
        queries.labels,
        gallery.codes,
        gallery.labels,
        subject.model_copy(update={"rejected_gallery": gallery.rejected, "rejected_queries": queries.rejected}),
        gallery=kind,
        gallery_source=source,
        cutoffs=cutoffs,
        own_rows=own_rows,
        training_overlap=_overlap(trained, queries, gallery, kind),
        floats=floats,
    )


def _overlap(
    trained: TrainingPhotos | None, queries: CodedPhotos, gallery: CodedPhotos, kind: GalleryKind
) -> TrainingOverlap | None:
    """Learned codes belong to photos that were trained on with their labels, whatever the record says."""
    found = training_overlap(trained, gallery.shas or ("",) * len(gallery.labels), gallery.labels, queries.shas)
    if kind == "encoded":
        return found
    asked = found.queries_trained if found else 0
    return TrainingOverlap(protocol="A", trained=len(gallery.labels), queries_trained=asked)


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
