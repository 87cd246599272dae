"""What a result says of itself: one record per gallery, one document per evaluation.

A gallery is `encoded` (the network's codes of the photos) or `learned` (codes of the training photos made with their
labels at hand: solved for each photo, V, or one for each class, class codes). Papers of the asymmetric family report
`learned`; only `encoded` says how new photos are found. The two are never mixed: each has its own record, and a record
names its gallery.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, Field, model_validator

from milvus_fghash._version import __version__
from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.bounded_file import MAX_RECORD_BYTES, read_bounded
from milvus_fghash.core.codes import Codes
from milvus_fghash.core.file_models import Frozen, read_model
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.errors import DataError
from milvus_fghash.evaluation import metrics
from milvus_fghash.evaluation.bit_statistics import CodeHealth, code_health

GalleryKind = Literal["learned", "encoded"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]

PLACES = (1, 5, 10, 20, 50, 100, 200, 500, 1000)
"""The k of precision@k and recall@k; those beyond the gallery's size are left out."""


class Subject(Frozen):
    """What is evaluated: the model and the photos."""

    method: str
    bits: int
    fingerprint: str
    """Identity of the model: weights, preprocessing, code length."""
    lineage: str
    """Id of the training run."""
    selection: str = "last round"
    """Which state of the training was taken. Never "best on the test queries"."""
    dataset: str
    gallery_split: str
    query_split: str
    rejected_gallery: Count = Field(0, validation_alias=AliasChoices("rejected_gallery", "refused_gallery"))
    """Gallery photos that could not be read and are not in the figures."""
    rejected_queries: Count = Field(0, validation_alias=AliasChoices("rejected_queries", "refused_queries"))
    versions: dict[str, str] = Field(default_factory=dict)
    """Package or server -> version."""


class RadiusCurve(Frozen):
    """Precision and recall of "all codes within radius r", for r = 0 .. bits."""

    averaging: str = "micro: all query-gallery pairs are pooled"
    precision: tuple[Share | None, ...]
    """None while no pair lies within the radius."""
    recall: tuple[Share, ...]


class EvaluationRecord(Subject):
    """One model, one gallery, one set of queries; every figure names its rule."""

    metric: str = "mAP@all, exact expectation over ties"
    relevance: str = "a gallery photo is relevant when it has the query's class; photos without a class never are"
    tie_rule: str = "map_exact, precision_at, recall_at: the mean over all orders of equal distances"
    sorted_rule: str = "map_sorted: one stable sort, equal distances in the gallery's stored order (published form)"
    empty_rule: str = "a query with nothing relevant counts 0"
    gallery: GalleryKind
    gallery_source: str
    """Where the gallery's codes come from, such as "V" or "network"."""
    date: str
    """UTC, ISO 8601."""

    n_queries: Count
    n_gallery: Count
    n_classes: Count
    """Classes among queries and gallery together."""
    queries_without_relevant: Count

    map_exact: Share
    map_sorted: Share
    map_chance: Share
    """`map_exact` of codes that are all equal."""
    precision_at: dict[int, Share]
    recall_at: dict[int, Share]
    """Share of a query's relevant photos among the first k (not "at least one among them")."""
    pr_curve: RadiusCurve
    eleven_point: tuple[Share, ...]
    """Interpolated precision at recall 0, 0.1 .. 1 over whole radii; the mean over queries."""
    same_class_distances: tuple[Count, ...]
    """Query-gallery pairs of one class at distance 0 .. bits."""
    other_class_distances: tuple[Count, ...]
    gallery_health: CodeHealth
    query_health: CodeHealth


class Evaluation(Frozen):
    """The document: the encoded gallery, and the learned one where the method has it."""

    format_version: Literal[1] = 1
    encoded: EvaluationRecord
    learned: EvaluationRecord | None = None
    learned_absent: str | None = None
    """Why there is no learned gallery; null when there is one."""

    @model_validator(mode="after")
    def _galleries_must_not_mix(self) -> Self:
        if self.encoded.gallery != "encoded" or (self.learned and self.learned.gallery != "learned"):
            raise ValueError("the encoded and the learned gallery were exchanged")
        if (self.learned is None) == (self.learned_absent is None):
            raise ValueError("there must be either a learned gallery or the reason why there is none")
        if self.learned and self.learned.fingerprint != self.encoded.fingerprint:
            raise ValueError("the two galleries belong to different models")
        return self

    @property
    def records(self) -> dict[str, EvaluationRecord]:
        """The records by a name that says method and gallery, as plots and tables show it."""
        both = [record for record in (self.encoded, self.learned) if record]
        return {f"{record.method}, {record.bits} bits, {record.gallery} gallery": record for record in both}

    def write(self, path: Path) -> None:
        """Write one JSON document, whole or not at all.

        Raises:
            DataError: when the disk rejects.
        """
        text = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomic(path, (text + "\n").encode())


def read_evaluation(path: Path) -> Evaluation:
    """Read what `Evaluation.write` wrote.

    Raises:
        DataError: when it cannot be read or is no JSON object.
        ConfigError: when it is no evaluation, or one of a newer version.
    """
    try:
        values = parse_json(read_bounded(Path(path), MAX_RECORD_BYTES, regular=False))
    except OSError as error:
        raise DataError(f"cannot read the evaluation {path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path} is no evaluation: {error}. Run evaluate again") from None
    if not isinstance(values, dict):
        raise DataError(f"{path} is no evaluation: expected one JSON object. Run evaluate again")
    return read_model(Evaluation, values, str(path))


def evaluate_codes(
    query_codes: Codes,
    query_labels: Sequence[str],
    gallery_codes: Codes,
    gallery_labels: Sequence[str],
    subject: Subject,
    *,
    gallery: GalleryKind,
    gallery_source: str,
    places: Sequence[int] = PLACES,
) -> EvaluationRecord:
    """Search all gallery codes for each query, by distance, and judge the result by class.

    Args:
        query_codes: (n_queries, n_bytes) uint8.
        query_labels: (n_queries,) class names; each query needs one.
        gallery_codes: (n_gallery, n_bytes) uint8.
        gallery_labels: (n_gallery,) class names; "" is relevant to no query.
        subject: what the codes belong to; ``subject.bits`` is their length.

    Raises:
        DataError: when a query has no class, there is no query or no gallery, or numbers do not fit.
        CodeError: when codes do not have ``subject.bits``.
    """
    unlabelled = sum(not label for label in query_labels)
    if unlabelled:
        raise DataError(f"{unlabelled} of {len(query_labels)} queries have no class; evaluation needs one for each")
    classes = sorted({*query_labels, *gallery_labels} - {""})
    pair = (query_codes, _numbers(query_labels, classes), gallery_codes, _numbers(gallery_labels, classes))
    histogram = metrics.distance_histogram(*pair, subject.bits)
    all_tied = metrics.Histogram(histogram.counts.sum(axis=1, keepdims=True), histogram.hits.sum(axis=1, keepdims=True))
    precision, recall = metrics.radius_curve(histogram)
    known_places = [k for k in places if k <= len(gallery_codes)]
    return EvaluationRecord(
        **{**subject.model_dump(), "versions": _versions(subject.versions)},
        gallery=gallery,
        gallery_source=gallery_source,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        n_queries=len(query_codes),
        n_gallery=len(gallery_codes),
        n_classes=len(classes),
        queries_without_relevant=histogram.without_relevant,
        map_exact=_share(metrics.mean_average_precision(histogram)),
        map_sorted=_share(metrics.sorted_mean_average_precision(*pair, subject.bits)),
        map_chance=_share(metrics.mean_average_precision(all_tied)),
        precision_at={k: _share(metrics.precision_at(histogram, k)) for k in known_places},
        recall_at={k: _share(metrics.recall_at(histogram, k)) for k in known_places},
        pr_curve=RadiusCurve(precision=tuple(precision), recall=tuple(recall)),
        eleven_point=tuple(map(_share, metrics.eleven_point_precision(histogram))),
        same_class_distances=tuple(histogram.hits.sum(axis=0).tolist()),
        other_class_distances=tuple((histogram.counts - histogram.hits).sum(axis=0).tolist()),
        gallery_health=code_health(gallery_codes, subject.bits),
        query_health=code_health(query_codes, subject.bits),
    )


def _numbers(labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    number = {name: position for position, name in enumerate(classes)}
    return np.array([number.get(label, -1) for label in labels], np.int64)  # "" is -1, which no query has


def _versions(more: Mapping[str, str]) -> dict[str, str]:
    return {"milvus-fghash": __version__, "numpy": np.__version__, **more}


def _share(value: float) -> float:
    """A mean of shares can pass 0 or 1 by its last digit."""
    return min(max(value, 0.0), 1.0)
