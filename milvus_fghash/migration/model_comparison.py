"""Compare two versions of a catalog: rows that the new one lacks, and retrieval quality of both models."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from milvus_fghash.bundle.training_photos import TrainingPhotos
from milvus_fghash.core.codes import Codes
from milvus_fghash.core.labels import class_names, comparable_labels, split_labels
from milvus_fghash.errors import StoreError
from milvus_fghash.evaluation.metrics import average_precisions, distance_histogram, precision_at
from milvus_fghash.evaluation.training_overlap import TrainingOverlap, training_overlap
from milvus_fghash.ingest.verify import MAX_EXAMPLES
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.expressions import MAX_IDS_PER_CALL
from milvus_fghash.milvus.rows import Rows, read_meta

CUTOFFS: Final = (1, 10)
"""The k of precision@k."""
Z_95: Final = 1.96
"""Half the width of a 95 % confidence interval, in standard errors."""


@dataclass(frozen=True)
class MissingRows:
    """Rows of the old version that the new one does not have.

    Attributes:
        count: number of rows.
        examples: paths of the first ones.
        namespaces: namespace -> number of rows; "" for rows without one.
        changed: rows of both versions whose contents differ, since the photo changed between the two ingests.
    """

    count: int
    examples: tuple[str, ...]
    namespaces: Mapping[str, int]
    changed: int


@dataclass(frozen=True)
class Quality:
    """Retrieval quality of one version, as exact expectations over ties.

    Attributes:
        fingerprint: of the model.
        bits: code length.
        map_exact: mean average precision.
        precision_at: k -> precision@k.
    """

    fingerprint: str
    bits: int
    map_exact: float
    precision_at: Mapping[int, float]


@dataclass(frozen=True)
class ModelComparison:
    """Both versions on the same photos: each photo is a query, all others are its gallery.

    Attributes:
        photos: labelled photos in the sample, without equal files and classes of one photo.
        classes: number of their classes.
        old: quality of the old version.
        new: quality of the new version.
        difference: mean average precision of the new version minus that of the old one.
        uncertainty: half the width of the 95 % confidence interval of the difference, over the queries.
        training_overlap: which of the photos the new model was trained on; None where its bundle does not say. The
            bundle of the old model is not at hand.
    """

    photos: int
    classes: int
    old: Quality
    new: Quality
    difference: float
    uncertainty: float
    training_overlap: TrainingOverlap | None = None


@dataclass(frozen=True)
class RowComparison:
    """The rows of two versions.

    Attributes:
        missing: rows that the new version lacks.
        sample: ids of labelled rows of both versions, drawn at random.
    """

    missing: MissingRows
    sample: tuple[str, ...]


def compare_rows(
    old: HashCollection, new: HashCollection, sample: int = 0, split: str = "", seed: int = 0
) -> RowComparison:
    """Look up each row of the old version in the new one; strongly consistent.

    Args:
        sample: number of labelled rows to draw, independently of the order in which Milvus returns them.
        split: draw only rows of this split, as their ``meta`` has it; "" draws from all.

    Raises:
        StoreError: when Milvus rejects a call.
    """
    examples: list[str] = []
    namespaces: Counter[str] = Counter()
    changed = 0
    drawn: list[tuple[int, str]] = []  # a heap; its top is replaced first
    for page in old.pages(["id", "path", "label", "content_sha", "meta"], MAX_IDS_PER_CALL):
        sha_of = _shas(new, [row["id"] for row in page])
        for row in page:
            key, meta = row["id"], read_meta(row["meta"])
            if key not in sha_of:
                namespaces[str(meta.get("namespace", ""))] += 1
                examples = sorted([*examples, row["path"]])[:MAX_EXAMPLES]
                continue
            changed += sha_of[key] != row["content_sha"]
            if row["label"] and sample and meta.get("split", "") == (split or meta.get("split", "")):
                _draw(drawn, key, sample, seed)
    missing = MissingRows(namespaces.total(), tuple(examples), dict(sorted(namespaces.items())), changed)
    return RowComparison(missing, tuple(sorted(key for _, key in drawn)))


def compare_models(
    old: HashCollection, new: HashCollection, ids: tuple[str, ...], trained: TrainingPhotos | None = None
) -> ModelComparison | str:
    """Measure both versions on the rows with these ids, by the labels of the new one; the reason if it is impossible.

    Args:
        trained: which photos the new model was trained on; None if unknown.

    Raises:
        StoreError: when a row was deleted in the meantime, or Milvus rejects a call.
    """
    if not ids:
        return "no row of both versions has a label"
    rows = _one_of_each_content(_read(new, ids))
    in_class = Counter(name for row in rows.values() for name in split_labels(row.label))
    kept = [key for key, row in rows.items() if any(in_class[name] > 1 for name in split_labels(row.label))]
    if not kept:
        return "no two photos of the sample have the same class"
    (labels,) = comparable_labels([rows[key].label for key in kept])
    of_old = _read(old, tuple(kept))
    itself = np.arange(len(kept))
    codes = [np.stack([each[key].code for key in kept]) for each in (of_old, rows)]
    histograms = [
        distance_histogram(each, labels, each, labels, collection.bits, itself)
        for collection, each in zip((old, new), codes, strict=True)
    ]
    precisions = [average_precisions(one) for one in histograms]
    difference = precisions[1] - precisions[0]
    error = float(difference.std(ddof=1)) / len(kept) ** 0.5
    first, second = (
        Quality(
            collection.metadata.fingerprint,
            collection.bits,
            float(own.mean()),
            {k: precision_at(histogram, k) for k in CUTOFFS if k < len(kept)},
        )
        for collection, histogram, own in zip((old, new), histograms, precisions, strict=True)
    )
    kept_rows = [rows[key] for key in kept]
    overlap = training_overlap(
        trained, [row.content_sha for row in kept_rows], [row.label for row in kept_rows], query_shas=()
    )
    mean, n_classes = float(difference.mean()), len(class_names(row.label for row in kept_rows))
    return ModelComparison(len(kept), n_classes, first, second, mean, Z_95 * error, overlap)


@dataclass(frozen=True)
class _Row:
    label: str
    content_sha: str
    code: Codes


def _shas(collection: HashCollection, ids: list[str]) -> dict[str, str]:
    """Id -> content_sha of the rows that exist. A quick read may miss recent rows; only those are read strongly."""
    found = collection.query_by_id(ids, ["id", "content_sha"], "Bounded")
    known = {row["id"] for row in found}
    found += collection.query_by_id([key for key in ids if key not in known], ["id", "content_sha"])
    return {row["id"]: row["content_sha"] for row in found}


def _draw(drawn: list[tuple[int, str]], key: str, sample: int, seed: int) -> None:
    """Keep the ``sample`` ids with the smallest digests."""
    digest = int.from_bytes(hashlib.blake2b(f"{seed} {key}".encode(), digest_size=8).digest())
    if len(drawn) < sample:
        heapq.heappush(drawn, (-digest, key))
    else:
        heapq.heappushpop(drawn, (-digest, key))


def _read(collection: HashCollection, ids: tuple[str, ...]) -> dict[str, _Row]:
    found = {row_id: row for part in _pages(collection, ids) for row_id, row in _by_id(part)}
    if deleted := [key for key in ids if key not in found]:
        raise StoreError(
            f"the row {deleted[0]} of {collection.name} was deleted in the meantime; try again when nothing is deleted"
        )
    return found


def _pages(collection: HashCollection, ids: tuple[str, ...]) -> Iterator[Rows]:
    for start in range(0, len(ids), MAX_IDS_PER_CALL):
        yield collection.get(ids[start : start + MAX_IDS_PER_CALL])


def _by_id(rows: Rows) -> Iterator[tuple[str, _Row]]:
    for key, label, sha, code in zip(rows.ids, rows.labels, rows.content_shas, rows.codes, strict=True):
        yield key, _Row(label, sha, code)


def _one_of_each_content(rows: Mapping[str, _Row]) -> dict[str, _Row]:
    """Without further rows of the same file, which any model finds at distance 0."""
    first = {row.content_sha or key: key for key, row in reversed(list(rows.items()))}
    return {key: rows[key] for key in sorted(first.values())}
