"""Measure a method at several lengths under a protocol, on features in memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milvus_fghash.advice.interval import jackknife_variance, spread_groups
from milvus_fghash.advice.result import NO_CLASSES, Cell, Hits
from milvus_fghash.core.codes import Codes, hamming
from milvus_fghash.evaluation import metrics
from milvus_fghash.evaluation.protocols import ProtocolOptions, ProtocolSplit, fold_splits, protocol_splits
from milvus_fghash.evaluation.quality import Quality, code_quality, float_quality, mean_quality
from milvus_fghash.methods.base import Backbone
from milvus_fghash.methods.lda import unit_length
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.on_features import FeatureTrainer, encode_features

NEIGHBOURS: Final = 10
FOLDS: Final = 3
"""Folds of photos without splits: each is measured on in turn while the others are fitted on."""
TIMED_CODES: Final = 100_000
TIMINGS: Final = 5

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Catalog:
    """Photos in memory.

    Attributes:
        features: (views, n, n_features), the centre crop first.
        paths, labels, splits: (n,) each; "" for a photo without a class or without a split.
        options: of the protocols.
        has_splits: whether the splits are the user's own.
    """

    features: Tensor
    paths: Sequence[str]
    labels: Sequence[str]
    splits: Sequence[str]
    options: ProtocolOptions
    has_splits: bool

    @property
    def has_classes(self) -> bool:
        return any(self.labels)

    @property
    def centre_crops(self) -> NDArray[np.float32]:
        return np.asarray(self.features[0].cpu().numpy())

    def parts(self, protocol: str, fold: int) -> tuple[ProtocolSplit, ...]:
        """The photos of a protocol. Without splits, ``fold`` numbers the photos that are not fitted on."""
        splits = self.splits
        if not self.has_splits:
            splits = fold_splits(self.labels, FOLDS, fold % FOLDS, self.options.seed + fold // FOLDS)
        if protocol != NO_CLASSES:
            return protocol_splits(protocol, self.labels, splits, self.options)
        is_fit = np.array([name == self.options.fit_split for name in splits])
        fit, test, none = np.flatnonzero(is_fit), np.flatnonzero(~is_fit), np.zeros(0, np.int64)
        return (ProtocolSplit(protocol, 0, none, fit, test, test, frozenset()),)


@dataclass(frozen=True)
class Measured:
    """Codes of one method and length on the photos of a protocol.

    Attributes:
        cell: the figures.
        parts: photos of the protocol.
        codes: of all photos; those of photos outside gallery and queries are not used.
    """

    cell: Cell
    parts: tuple[ProtocolSplit, ...]
    codes: Codes


class Trial:
    """A method under a protocol, measured at one length after another; one training serves all where it can."""

    def __init__(self, catalog: Catalog, recipe: Recipe, protocol: str, backbone: Backbone, fold: int = 0) -> None:
        """Nothing is trained yet.

        Raises:
            DataError: when the protocol finds no photos, or the method needs classes that are not there.
        """
        self.catalog, self.name, self.protocol = catalog, recipe.method.name, protocol
        self.parts = catalog.parts(protocol, fold)
        labelled, unlabelled = {*self.parts[0].labelled.tolist()}, self.parts[0].unlabelled.tolist()
        fit = sorted([*labelled, *unlabelled])
        classes = _numbers([catalog.labels[row] if row in labelled else "" for row in fit])
        self._trainer = FeatureTrainer(recipe, catalog.features[:, fit], torch.from_numpy(classes), backbone)

    def at(self, bits: int) -> Measured:
        """Fit the method at one length, and measure its codes."""
        catalog, parts = self.catalog, self.parts
        started = time.perf_counter()
        method = self._trainer.fitted(bits)
        seconds = time.perf_counter() - started
        codes = encode_features(method, catalog.features[0])
        cell = Cell(
            method=self.name,
            bits=bits,
            protocol=self.protocol,
            quality=quality_of(catalog, parts, codes, bits) if catalog.has_classes else None,
            neighbours=shared_neighbours(catalog, parts, codes, bits),
            fit_seconds=seconds,
            search_milliseconds=search_milliseconds(bits),
        )
        return Measured(cell, parts, codes)


def quality_of(catalog: Catalog, parts: Sequence[ProtocolSplit], codes: Codes | None, bits: int = 0) -> Quality:
    """The mean over the parts; of the floats themselves where ``codes`` is None."""
    numbers, floats, found = _numbers(catalog.labels), catalog.centre_crops, []
    for one in parts:
        of = one.queries, one.gallery
        if codes is None:
            found.append(float_quality(floats[of[0]], numbers[of[0]], floats[of[1]], numbers[of[1]], one.own_rows))
        else:
            found.append(code_quality(codes[of[0]], numbers[of[0]], codes[of[1]], numbers[of[1]], bits, one.own_rows))
    return mean_quality(found)


def shared_neighbours(
    catalog: Catalog, parts: Sequence[ProtocolSplit], codes: Codes, bits: int, kept: Mask | None = None
) -> float:
    """Expected share of the floats' 10 nearest gallery photos among the 10 nearest by codes, over equal distances."""
    floats, shares, counts = unit_length(catalog.centre_crops), [], []
    for one in parts if kept is None else _kept(parts, kept):
        similar, apart = _compared(floats, codes, one)
        k = min(NEIGHBOURS, similar.shape[1] - 1)
        relevant = np.zeros(similar.shape, bool)
        np.put_along_axis(relevant, np.argpartition(-similar, k - 1, axis=1)[:, :k], True, axis=1)
        shares.append(metrics.precision_at(_histogram(apart, relevant), k))
        counts.append(len(similar))
    return float(np.average(shares, weights=counts))


def figure_variance(catalog: Catalog, measured: Measured) -> float:
    """Variance of a cell's mAP, or of its share of neighbours, over samples of as many photos."""
    cell, parts, codes = measured.cell, measured.parts, measured.codes
    groups = spread_groups(catalog.labels, catalog.options.seed)
    if cell.quality is None:
        return jackknife_variance(lambda kept: shared_neighbours(catalog, parts, codes, cell.bits, kept), groups)
    numbers = _numbers(catalog.labels)

    def mean_ap(kept: Mask) -> float:
        found = []
        for one in _kept(parts, kept):
            of, own = (one.queries, one.gallery), one.own_rows
            histogram = metrics.distance_histogram(
                codes[of[0]], numbers[of[0]], codes[of[1]], numbers[of[1]], cell.bits, own
            )
            found.append(metrics.average_precisions(histogram))
        return float(np.concatenate(found).mean())

    return jackknife_variance(mean_ap, groups)


def largest_differences(catalog: Catalog, measured: Measured, n_queries: int, n_hits: int) -> tuple[Hits, ...]:
    """Queries for which floats and codes agree least in their first hits, the least first."""
    one = measured.parts[0]
    similar, apart = _compared(unit_length(catalog.centre_crops), measured.codes, one)
    by_floats = np.argsort(-similar, axis=1, kind="stable")[:, :NEIGHBOURS]
    by_codes = np.argsort(apart, axis=1, kind="stable")[:, :NEIGHBOURS]
    common = [len(np.intersect1d(*pair)) for pair in zip(by_floats, by_codes, strict=True)]

    def shown(places: NDArray[Any]) -> tuple[tuple[str, str], ...]:
        rows = one.gallery[places[:n_hits]]
        return tuple((catalog.paths[row], catalog.labels[row]) for row in rows)

    return tuple(
        Hits(
            query=catalog.paths[one.queries[place]],
            label=catalog.labels[one.queries[place]],
            by_floats=shown(by_floats[place]),
            by_codes=shown(by_codes[place]),
        )
        for place in np.argsort(common, kind="stable")[:n_queries].tolist()
    )


@cache
def search_milliseconds(bits: int) -> float:
    """Time of comparing a code with a million others in this process, measured on `TIMED_CODES`: the shortest of
    `TIMINGS`, since other programs only make it longer."""
    codes = np.random.default_rng(0).integers(0, 256, (TIMED_CODES, (bits + 7) // 8), np.uint8)
    took = []
    for _ in range(TIMINGS):
        started = time.perf_counter()
        hamming(codes[:1], codes)
        took.append(time.perf_counter() - started)
    return min(took) * 1e3 * 1_000_000 / TIMED_CODES


def _kept(parts: Sequence[ProtocolSplit], kept: Mask) -> list[ProtocolSplit]:
    """Parts without the photos that are not kept."""
    return [
        replace(one, queries=one.queries[kept[one.queries]], gallery=one.gallery[kept[one.gallery]]) for one in parts
    ]


def _compared(
    floats: NDArray[np.float32], codes: Codes, part: ProtocolSplit
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Cosines and distances of queries and gallery, (n_queries, n_gallery); a query is farthest from itself."""
    similar = floats[part.queries] @ floats[part.gallery].T
    apart = hamming(codes[part.queries], codes[part.gallery])
    if (own := part.own_rows) is not None:
        asking = np.flatnonzero(own >= 0)
        similar[asking, own[asking]] = -np.inf
        apart[asking, own[asking]] = 8 * codes.shape[1] + 1
    return similar, apart


def _numbers(labels: Sequence[str]) -> NDArray[np.int64]:
    number: Mapping[str, int] = {name: place for place, name in enumerate(sorted({*labels} - {""}))}
    return np.array([number.get(label, -1) for label in labels], np.int64)


def _histogram(distances: NDArray[np.uint16], relevant: Mask) -> metrics.Histogram:
    shape = (len(distances), int(distances.max()) + 1)
    cells = distances + np.arange(shape[0])[:, None] * shape[1]
    n_cells = shape[0] * shape[1]
    counts, hits = (np.bincount(which, minlength=n_cells).reshape(shape) for which in (cells.ravel(), cells[relevant]))
    return metrics.Histogram(counts, hits)
