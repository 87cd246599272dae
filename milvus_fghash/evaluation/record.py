"""Results of an evaluation: one record per gallery, in one document.

A gallery is `encoded` (codes that the network computes from photos) or `learned` (codes optimised with the labels of
the training photos: one per photo, V, or one per class). Papers on asymmetric hashing report `learned`. They are never
mixed: each has its own record. `encoded` says how the codes were made, not that the photos are new: a network gives the
photos that it was trained on their class's code. What the photos are to the model is `training_overlap`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AliasChoices, Field, model_validator

from milvus_fghash._version import __version__
from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.bounded_file import MAX_RECORD_BYTES, read_bounded
from milvus_fghash.core.codes import Codes
from milvus_fghash.core.file_models import Frozen, read_model
from milvus_fghash.core.labels import class_names, comparable_labels, is_label_set
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.errors import DataError
from milvus_fghash.evaluation import metrics
from milvus_fghash.evaluation.bit_statistics import CodeHealth, code_health
from milvus_fghash.evaluation.quality import Features, Quality, float_quality, share
from milvus_fghash.evaluation.training_overlap import UNKNOWN, TrainingOverlap

GalleryKind = Literal["learned", "encoded"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]

CUTOFFS = (1, 5, 10, 20, 50, 100, 200, 500, 1000)
"""The k of precision@k and recall@k, as far as the gallery is that large."""
MAP_CUTOFFS = (1000, 5000)
"""The k of mAP@k, as papers report it for ImageNet and NUS-WIDE, where the gallery is larger."""
RELEVANCE = "a gallery photo is relevant when it has the query's class; photos without a class never are"
SHARED_RELEVANCE = "a gallery photo is relevant when it shares a label with the query; photos without a label never do"


class Subject(Frozen):
    """The model and the photos of an evaluation.

    Attributes:
        method: training method.
        bits: code length.
        fingerprint: identity of the model: weights, preprocessing, code length.
        lineage: id of the training run.
        selection: which state of the training is evaluated; never the best one on the test queries.
        dataset: name of the photos.
        gallery_split, query_split: splits of the gallery and of the queries; of a collection, the filter.
        rejected_gallery, rejected_queries: photos that could not be read and are not in the figures. Called
            ``refused_...`` in records written before the name changed.
        versions: package or server -> version.
    """

    method: str
    bits: int
    fingerprint: str
    lineage: str
    selection: str = "last round"
    dataset: str
    gallery_split: str
    query_split: str
    rejected_gallery: Count = Field(0, validation_alias=AliasChoices("rejected_gallery", "refused_gallery"))
    rejected_queries: Count = Field(0, validation_alias=AliasChoices("rejected_queries", "refused_queries"))
    versions: dict[str, str] = Field(default_factory=dict)


class RadiusCurve(Frozen):
    """Precision and recall of all codes within radius r, for r = 0 .. bits.

    Attributes:
        averaging: how queries are averaged.
        precision: by radius; None where no pair is within it.
        recall: by radius.
    """

    averaging: str = "micro: all query-gallery pairs are pooled"
    precision: tuple[Share | None, ...]
    recall: tuple[Share, ...]


class EvaluationRecord(Subject):
    """Figures of one model on one gallery and one set of queries, with the rules they follow.

    Attributes:
        metric, relevance, tie_rule, sorted_rule, empty_rule: the rules, in words.
        gallery: ``encoded`` or ``learned``.
        gallery_source: where the gallery's codes come from, such as ``V`` or ``network``.
        date: time in UTC, ISO 8601.
        n_queries, n_gallery: numbers of photos.
        n_classes: classes of queries and gallery together.
        queries_without_relevant: queries whose class is not in the gallery.
        map_exact: mean average precision over all hits, as the exact expectation over ties.
        map_sorted: the same as published code computes it, in the stored order of the gallery.
        map_chance: ``map_exact`` of codes that are all equal.
        map_at: k -> mAP@k, the expectation over ties; only for k below the size of the gallery.
        precision_at: k -> precision@k.
        reach: share of the gallery among the first 10 hits of some query; None in older records.
        floats: the same figures of the real-valued embedding that the codes were made of, ranked by cosine; None where
            the bundle has no embedding output.
        training_overlap: which part of the gallery the model was trained on; None where the bundle does not say.
        recall_at: k -> recall@k: fraction of a query's relevant photos among the first k.
        pr_curve: precision and recall by Hamming radius.
        eleven_point: interpolated precision at recall 0, 0.1 .. 1 over complete radii, averaged over queries.
        same_class_distances, other_class_distances: number of query-gallery pairs at distance 0 .. bits.
        gallery_health, query_health: statistics of the bits.
    """

    metric: str = "mAP@all, exact expectation over ties"
    relevance: str = RELEVANCE
    tie_rule: str = "map_exact, precision_at, recall_at: the mean over all orders of equal distances"
    sorted_rule: str = "map_sorted: one stable sort, equal distances in the gallery's stored order (published form)"
    empty_rule: str = "a query with nothing relevant counts 0"
    gallery: GalleryKind
    gallery_source: str
    date: str

    n_queries: Count
    n_gallery: Count
    n_classes: Count
    queries_without_relevant: Count

    map_exact: Share
    map_sorted: Share
    map_chance: Share
    map_at: dict[int, Share] = Field(default_factory=dict)
    precision_at: dict[int, Share]
    recall_at: dict[int, Share]
    reach: Share | None = None
    floats: Quality | None = None
    training_overlap: TrainingOverlap | None = None
    pr_curve: RadiusCurve
    eleven_point: tuple[Share, ...]
    same_class_distances: tuple[Count, ...]
    other_class_distances: tuple[Count, ...]
    gallery_health: CodeHealth
    query_health: CodeHealth

    @property
    def protocol(self) -> str:
        """What the gallery is to the model: trained photos, new photos, new classes and so on, with numbers."""
        return self.training_overlap.summary if self.training_overlap else UNKNOWN


class Evaluation(Frozen):
    """Retrieval quality of a model or a collection.

    Attributes:
        format_version: version of the document.
        encoded: figures with the gallery that the network encoded.
        further: figures of further galleries of the same model and queries, encoded too.
        learned: figures with the learned codes of the gallery; None where there are none.
        learned_absent: why there is no learned gallery; None if there is one.

    Examples:
        >>> import milvus_fghash as fg
        >>> with fg.Catalog.open("birds.db", "photos", bundle="bundles/birds") as catalog:  # doctest: +SKIP
        ...     print(catalog.evaluate("photos").encoded.map_exact)
        0.83
    """

    format_version: Literal[1] = 1
    encoded: EvaluationRecord
    further: tuple[EvaluationRecord, ...] = ()
    learned: EvaluationRecord | None = None
    learned_absent: str | None = None

    @model_validator(mode="after")
    def _galleries_must_not_mix(self) -> Self:
        if any(one.gallery != "encoded" for one in (self.encoded, *self.further)) or (
            self.learned and self.learned.gallery != "learned"
        ):
            raise ValueError("the encoded and the learned gallery are exchanged")
        if (self.learned is None) == (self.learned_absent is None):
            raise ValueError("there must be either a learned gallery or the reason why there is none")
        others = [*self.further, *([self.learned] if self.learned else [])]
        if any(one.fingerprint != self.encoded.fingerprint for one in others):
            raise ValueError("the galleries belong to different models")
        return self

    @property
    def records(self) -> dict[str, EvaluationRecord]:
        """The records by method, code length and gallery, as plots and tables name them."""
        both = [record for record in (self.encoded, self.learned) if record]
        named = {f"{record.method}, {record.bits} bits, {record.gallery} gallery": record for record in both}
        return named | {
            f"{record.method}, {record.bits} bits, gallery {record.gallery_split}": record for record in self.further
        }

    def write(self, path: Path) -> None:
        """Write one JSON document, atomically.

        Args:
            path: the file; an existing one is replaced.

        Raises:
            DataError: when the file cannot be written.
        """
        text = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomic(path, (text + "\n").encode())


def read_evaluation(path: Path) -> Evaluation:
    """Read a file that `Evaluation.write` wrote.

    Raises:
        DataError: when it cannot be read or is not a JSON object.
        ConfigError: when it is not an evaluation, or of a newer version.
    """
    try:
        values = parse_json(read_bounded(Path(path), MAX_RECORD_BYTES, regular=False))
    except OSError as error:
        raise DataError(f"cannot read the evaluation {path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path} is not an evaluation: {error}. Run evaluate again") from None
    if not isinstance(values, dict):
        raise DataError(f"{path} is not an evaluation: expected one JSON object. Run evaluate again")
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
    cutoffs: Sequence[int] = CUTOFFS,
    own_rows: metrics.OwnRows | None = None,
    training_overlap: TrainingOverlap | None = None,
    floats: tuple[Features, Features] | None = None,
) -> EvaluationRecord:
    """Rank all gallery codes by their distance from each query, and measure the ranking by class.

    Args:
        query_codes: (n_queries, n_bytes) uint8.
        query_labels: (n_queries,) class names or label sets, none empty.
        gallery_codes: (n_gallery, n_bytes) uint8.
        gallery_labels: (n_gallery,) class names or label sets; "" is relevant to no query.
        subject: model and photos of the codes.
        cutoffs: the k of precision@k and recall@k.
        own_rows: (n_queries,) gallery row of each query itself, which it does not find, or -1; None for none.
        training_overlap: which part of the gallery the model was trained on.
        floats: embeddings of the queries and of the gallery, each (n, n_features).

    Raises:
        DataError: when a query has no class, there are no queries or gallery codes, or the numbers of codes and labels
            differ.
        CodeError: when codes do not have ``subject.bits``.
    """
    unlabelled = sum(not label for label in query_labels)
    if unlabelled:
        raise DataError(f"{unlabelled} of {len(query_labels)} queries have no class; evaluation needs one for each")
    labels = comparable_labels(query_labels, gallery_labels)
    pair = (query_codes, labels[0], gallery_codes, labels[1])
    histogram = metrics.distance_histogram(*pair, subject.bits, own_rows)
    all_tied = metrics.Histogram(histogram.counts.sum(axis=1, keepdims=True), histogram.hits.sum(axis=1, keepdims=True))
    precision, recall = metrics.radius_curve(histogram)
    cutoffs = [k for k in cutoffs if k <= len(gallery_codes)]
    return EvaluationRecord(
        **{**subject.model_dump(), "versions": _versions(subject.versions)},
        relevance=relevance_rule(query_labels, gallery_labels),
        gallery=gallery,
        gallery_source=gallery_source,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        n_queries=len(query_codes),
        n_gallery=len(gallery_codes),
        n_classes=len(class_names([*query_labels, *gallery_labels])),
        queries_without_relevant=histogram.without_relevant,
        map_exact=share(metrics.mean_average_precision(histogram)),
        map_sorted=share(metrics.sorted_mean_average_precision(*pair, subject.bits, own_rows)),
        map_chance=share(metrics.mean_average_precision(all_tied)),
        map_at=map_at_cutoffs(histogram, len(gallery_codes)),
        precision_at={k: share(metrics.precision_at(histogram, k)) for k in cutoffs},
        recall_at={k: share(metrics.recall_at(histogram, k)) for k in cutoffs},
        reach=metrics.reach(query_codes, gallery_codes, subject.bits, own_rows),
        floats=float_quality(floats[0], pair[1], floats[1], pair[3], own_rows) if floats else None,
        training_overlap=training_overlap,
        pr_curve=RadiusCurve(precision=tuple(precision), recall=tuple(recall)),
        eleven_point=tuple(map(share, metrics.eleven_point_precision(histogram))),
        same_class_distances=tuple(histogram.hits.sum(axis=0).tolist()),
        other_class_distances=tuple((histogram.counts - histogram.hits).sum(axis=0).tolist()),
        gallery_health=code_health(gallery_codes, subject.bits),
        query_health=code_health(query_codes, subject.bits),
    )


def relevance_rule(*labels: Sequence[str]) -> str:
    """When a gallery photo is relevant, in words, for photos with these labels."""
    return SHARED_RELEVANCE if any(is_label_set(label) for part in labels for label in set(part)) else RELEVANCE


def map_at_cutoffs(histogram: metrics.Histogram, n_gallery: int) -> dict[int, float]:
    """k -> mAP@k, for those of `MAP_CUTOFFS` that are below the size of the gallery."""
    return {k: share(metrics.mean_average_precision_at(histogram, k)) for k in MAP_CUTOFFS if k < n_gallery}


def _versions(more: Mapping[str, str]) -> dict[str, str]:
    return {"milvus-fghash": __version__, "numpy": np.__version__, **more}
