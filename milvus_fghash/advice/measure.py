"""Measure a method at several lengths under a protocol, on features in memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from milvus_fghash.training.on_features import encode_features, fit_on_features

NEIGHBOURS: Final = 10
FOLDS: Final = 3
"""Folds of photos without splits: each is measured on in turn while the others are fitted on."""
TIMED_CODES: Final = 100_000

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
        fit, test = np.flatnonzero(is_fit), np.flatnonzero(~is_fit)
        halves = [np.sort(half) for half in np.array_split(np.random.default_rng(fold).permutation(test), 2)]
        none = np.zeros(0, np.int64)
        return tuple(
            ProtocolSplit(protocol, part, none, fit, halves[1 - part], halves[part], frozenset()) for part in range(2)
        )


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


def measure(
    catalog: Catalog, recipe: Recipe, lengths: Sequence[int], protocol: str, backbone: Backbone, fold: int = 0
) -> list[Measured]:
    """Fit a method once for each length, or once for all where it can, and measure its codes.

    Raises:
        DataError: when the protocol finds no photos, or the method needs classes that are not there.
    """
    parts = catalog.parts(protocol, fold)
    fit = np.concatenate([parts[0].labelled, parts[0].unlabelled])
    known = {name: number for number, name in enumerate(sorted({catalog.labels[row] for row in parts[0].labelled}))}
    classes = [known[catalog.labels[row]] for row in parts[0].labelled] + [-1] * len(parts[0].unlabelled)
    measured = []
    started = time.perf_counter()
    fitted = fit_on_features(recipe, lengths, catalog.features[:, fit], torch.tensor(classes), backbone)
    seconds = (time.perf_counter() - started) / len(lengths)
    for bits, method in fitted.items():
        codes = encode_features(method, catalog.features[0])
        cell = Cell(
            method=recipe.method.name,
            bits=bits,
            protocol=protocol,
            quality=quality_of(catalog, parts, codes, bits) if catalog.has_classes else None,
            neighbours=shared_neighbours(catalog, parts, codes, bits),
            fit_seconds=seconds,
            search_milliseconds=search_milliseconds(bits),
        )
        measured.append(Measured(cell, parts, codes))
    return measured


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
    floats, shares = unit_length(catalog.centre_crops), []
    kept = np.ones(len(floats), bool) if kept is None else kept
    for one in parts:
        queries, gallery = one.queries[kept[one.queries]], one.gallery[kept[one.gallery]]
        k = min(NEIGHBOURS, len(gallery))
        nearest = np.argpartition(-(floats[queries] @ floats[gallery].T), k - 1, axis=1)[:, :k]
        relevant = np.zeros((len(queries), len(gallery)), bool)
        np.put_along_axis(relevant, nearest, True, axis=1)
        found = metrics.precision_at(_histogram(hamming(codes[queries], codes[gallery]), relevant, bits), k)
        shares += [found] * len(queries)
    return float(np.mean(shares))


def figure_variance(catalog: Catalog, measured: Measured) -> float:
    """Variance of a cell's mAP, or of its share of neighbours, over samples of as many photos."""
    cell, parts, codes = measured.cell, measured.parts, measured.codes
    groups = spread_groups(catalog.labels, catalog.options.seed)
    if cell.quality is None:
        return jackknife_variance(lambda kept: shared_neighbours(catalog, parts, codes, cell.bits, kept), groups)
    numbers = _numbers(catalog.labels)

    def mean_ap(kept: Mask) -> float:
        found = []
        for one in parts:
            queries, gallery = one.queries[kept[one.queries]], one.gallery[kept[one.gallery]]
            histogram = metrics.distance_histogram(
                codes[queries], numbers[queries], codes[gallery], numbers[gallery], cell.bits
            )
            found.append(metrics.average_precisions(histogram))
        return float(np.concatenate(found).mean())

    return jackknife_variance(mean_ap, groups)


def largest_differences(catalog: Catalog, measured: Measured, n_queries: int, n_hits: int) -> tuple[Hits, ...]:
    """Queries for which floats and codes agree least in their first hits, the least first."""
    one, floats = measured.parts[0], unit_length(catalog.centre_crops)
    similar = floats[one.queries] @ floats[one.gallery].T
    by_floats = np.argsort(-similar, axis=1, kind="stable")[:, :NEIGHBOURS]
    apart = hamming(measured.codes[one.queries], measured.codes[one.gallery])
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


def search_milliseconds(bits: int) -> float:
    """Time of comparing a code with a million others in this process, measured on `TIMED_CODES`."""
    codes = np.random.default_rng(0).integers(0, 256, (TIMED_CODES, (bits + 7) // 8), np.uint8)
    started = time.perf_counter()
    hamming(codes[:1], codes)
    return (time.perf_counter() - started) * 1e3 * 1_000_000 / TIMED_CODES


def _numbers(labels: Sequence[str]) -> NDArray[np.int64]:
    number: Mapping[str, int] = {name: place for place, name in enumerate(sorted({*labels} - {""}))}
    return np.array([number.get(label, -1) for label in labels], np.int64)


def _histogram(distances: NDArray[np.uint16], relevant: Mask, bits: int) -> metrics.Histogram:
    shape = (len(distances), bits + 1)
    cells = distances + np.arange(shape[0])[:, None] * shape[1]
    n_cells = shape[0] * shape[1]
    counts, hits = (np.bincount(which, minlength=n_cells).reshape(shape) for which in (cells.ravel(), cells[relevant]))
    return metrics.Histogram(counts, hits)
