"""The four figures by which codes and real-valued features are compared: mAP, precision at 1 and at 10, and reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from milvus_fghash.core.codes import Codes
from milvus_fghash.core.file_models import Frozen
from milvus_fghash.core.labels import comparable_labels
from milvus_fghash.errors import DataError
from milvus_fghash.evaluation import metrics
from milvus_fghash.evaluation.protocols import ProtocolSplit
from milvus_fghash.methods.lda import fit_lda, unit_length

Share = Annotated[float, Field(ge=0, le=1)]
Features = NDArray[np.floating[Any]]

WIDE_AXES: Final = 256
"""Axes of the second discriminant analysis, usually more than number of classes - 1: the better one on new classes."""


class Quality(Frozen):
    """Quality of a ranking.

    Attributes:
        n_queries, n_gallery: numbers of photos.
        map: mean average precision over the whole ranking, the expectation over ties.
        precision_at_1, precision_at_10: expected share of relevant photos among the first hits; places beyond the end
            of the gallery are misses.
        reach: share of the gallery that is among the first 10 hits of some query; see `metrics.reach`.
    """

    n_queries: int
    n_gallery: int
    map: Share
    precision_at_1: Share
    precision_at_10: Share
    reach: Share


def code_quality(
    queries: Codes,
    query_labels: metrics.Labels,
    gallery: Codes,
    gallery_labels: metrics.Labels,
    n_bits: int,
    own_rows: metrics.OwnRows | None = None,
) -> Quality:
    """Quality of codes ranked by Hamming distance; shapes as in `metrics`.

    Raises:
        DataError, CodeError: as `metrics.distance_histogram`.
    """
    histogram = metrics.distance_histogram(queries, query_labels, gallery, gallery_labels, n_bits, own_rows)
    return Quality(
        n_queries=len(queries),
        n_gallery=len(gallery),
        map=share(metrics.mean_average_precision(histogram)),
        precision_at_1=share(metrics.precision_at(histogram, 1)),
        precision_at_10=share(metrics.precision_at(histogram, 10)),
        reach=metrics.reach(queries, gallery, n_bits, own_rows),
    )


def float_quality(
    queries: Features,
    query_labels: metrics.Labels,
    gallery: Features,
    gallery_labels: metrics.Labels,
    own_rows: metrics.OwnRows | None = None,
) -> Quality:
    """Quality of real-valued features ranked by cosine, in bounded memory.

    mAP and precision are expectations over equal similarities, as for codes; in `reach`, which hardly depends on them,
    equal similarities keep the order of the gallery.

    Args:
        queries: (n_queries, n_features).
        query_labels: (n_queries,) class numbers, or label sets as in `metrics`.
        gallery: (n_gallery, n_features).
        gallery_labels: (n_gallery,) the same; -1 is relevant to no query.
        own_rows: as in `metrics`.

    Raises:
        DataError: when there are no queries or no gallery features, or the numbers of features and labels differ.
    """
    for name, rows, labels in (("query", queries, query_labels), ("gallery", gallery, gallery_labels)):
        if len(rows) != len(labels):
            raise DataError(f"{len(rows)} {name} features have {len(labels)} labels; each needs one")
        if not len(rows):
            raise DataError(f"there are no {name} features to evaluate")
    asking, stored = unit_length(queries), unit_length(gallery).T
    harmonic = metrics.harmonic_numbers(len(gallery))
    reached = np.zeros(len(gallery), bool)
    figures = np.zeros((len(queries), 3))
    step = max(1, metrics.PAIRS_PER_BLOCK // len(gallery))
    for start in range(0, len(queries), step):
        is_relevant = metrics.relevant_pairs(query_labels[start : start + step], gallery_labels)
        for query, similarities in enumerate(asking[start : start + step] @ stored, start):
            if own_rows is not None and own_rows[query] >= 0:
                similarities[own_rows[query]] = -np.inf
            ascending = np.sort(similarities)
            relevant = similarities[is_relevant[query - start]]
            figures[query] = _figures(relevant[relevant > -np.inf], ascending, harmonic)
            reached[_first_hits(similarities, ascending, metrics.REACH_HITS)] = True
    mean = figures.mean(axis=0).tolist()
    return Quality(
        n_queries=len(queries),
        n_gallery=len(gallery),
        map=share(mean[0]),
        precision_at_1=share(mean[1]),
        precision_at_10=share(mean[2]),
        reach=float(reached.mean()),
    )


def float_ceilings(features: Features, labels: Sequence[str], split: ProtocolSplit) -> dict[str, Quality]:
    """What real-valued features reach under a protocol: the ceiling of the codes that are made of them.

    Args:
        features: (n, n_features), of all photos of the dataset.
        labels: (n,) class names.
        split: the photos of the protocol.

    Returns:
        ``raw``, the cosine of the features as they are; and where the protocol fits with labels,
        ``lda, C - 1 axes`` and ``lda, 256 axes``, those of two supervised maps: C is the number of known classes; the
        first is the better one on known classes, the second on new ones. Photos without labels count for the axes only.
        Photos with several labels have ``raw`` alone.
    """
    (numbers,) = comparable_labels(labels)
    queries, gallery = split.queries, split.gallery

    def quality(rows: Features, own: Features) -> Quality:
        return float_quality(rows, numbers[queries], own, numbers[gallery], split.own_rows)

    ceilings = {"raw": quality(features[queries], features[gallery])}
    if numbers.ndim > 1:  # an LDA needs one class for each photo
        return ceilings
    known = np.unique(numbers[split.labelled])
    if len(known) > 1 and len(known) < len(split.labelled):
        fitted = np.concatenate([split.labelled, split.unlabelled])
        classes = np.concatenate([numbers[split.labelled], np.full(len(split.unlabelled), -1)])
        for axes, n_axes, shrinkage in (("C - 1", len(known) - 1, 0.3), (str(WIDE_AXES), WIDE_AXES, 1.0)):
            project = fit_lda(features[fitted], classes, n_axes, shrinkage)
            ceilings[f"lda, {axes} axes"] = quality(project(features[queries]), project(features[gallery]))
    return ceilings


def mean_quality(qualities: Sequence[Quality]) -> Quality:
    """The mean over parts, draws or seeds; the numbers of photos are those of the first."""
    figures = ("map", "precision_at_1", "precision_at_10", "reach")
    mean = {name: float(np.mean([getattr(one, name) for one in qualities])) for name in figures}
    return qualities[0].model_copy(update=mean)


def share(value: float) -> float:
    """Clipped to 0 .. 1, since rounding may exceed the limits by the last digit."""
    return min(max(value, 0.0), 1.0)


def _figures(
    relevant: NDArray[np.float32], ascending: NDArray[np.float32], harmonic: metrics.Floats
) -> tuple[float, float, float]:
    """Average precision, and expected precision at 1 and at 10, of one query."""
    if not len(relevant):
        return 0.0, 0.0, 0.0
    values, hits = np.unique(-relevant, return_counts=True)  # most similar first
    at_most = np.searchsorted(ascending, -values, side="right")
    n = at_most - np.searchsorted(ascending, -values, side="left")
    n_before = len(ascending) - at_most
    gains = metrics.tie_gains(n, hits, n_before, hits.cumsum() - hits, harmonic)
    first = [float((hits * np.clip(k - n_before, 0, n) / n).sum() / k) for k in (1, 10)]
    return float(gains.sum() / len(relevant)), first[0], first[1]


def _first_hits(similarities: NDArray[np.float32], ascending: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Rows of the first k hits; of equal similarities at the cutoff, those that come first."""
    cutoff = ascending[-min(k, len(ascending))]
    nearer = np.flatnonzero(similarities > cutoff)
    tied = np.flatnonzero((similarities == cutoff) & (cutoff > -np.inf))
    return np.concatenate([nearer, tied[: k - len(nearer)]])
