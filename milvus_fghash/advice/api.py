"""`advise`, the public entry: photos -> which method and how many bits fit them."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch

from milvus_fghash.advice.encoder import sample_features
from milvus_fghash.advice.interval import later_interval
from milvus_fghash.advice.measure import (
    FOLDS,
    Catalog,
    Measured,
    figure_variance,
    largest_differences,
    measure,
    quality_of,
)
from milvus_fghash.advice.result import NO_CLASSES, Advice, Cell, Recommendation
from milvus_fghash.advice.sample import take_sample
from milvus_fghash.core.callbacks import StageProgress
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.read import parse_location, read_dataset
from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.evaluation.protocols import ProtocolOptions
from milvus_fghash.evaluation.quality import Quality
from milvus_fghash.methods import ON_FEATURES_ALONE
from milvus_fghash.methods.base import Backbone
from milvus_fghash.recipes.loader import compose, with_weights
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.device import device_named
from milvus_fghash.training.draws import with_seed

SETTING: Final = "frozen"
LENGTHS: Final = (128, 64, 256, 48, 32)
"""Code lengths, the most informative first."""
FLAGSHIP: Final = "posterior-itq"
PLAN: Final = (
    ("itq", "B", LENGTHS),
    (FLAGSHIP, "B", LENGTHS),
    ("itq", "C", LENGTHS),
    (FLAGSHIP, "C", LENGTHS),
    (FLAGSHIP, "D", LENGTHS),
    ("kinhash", "B", (48, 32)),
    ("kinhash", "C", (48, 32)),
)
"""Method, protocol and lengths, the most informative for their time first. ITQ uses no labels: D has its B."""
PLAN_WITHOUT_CLASSES: Final = (("itq", NO_CLASSES, LENGTHS), (FLAGSHIP, NO_CLASSES, LENGTHS))
TIME_OF: Final = {"itq": 0.0, FLAGSHIP: 1.0, "kinhash": 2.0}
"""Time of a fit relative to the flagship's, to decide whether there is enough."""
FEATURE_SHARE: Final = 0.4
"""Share of the time for the features."""
CLOSE_TO_BEST: Final = 0.02
"""A shorter code is recommended where its score is at most this much below the best one."""
REPEATS: Final = 2
"""Further trainings of the recommended cell, as time allows, for its interval."""
WANTED_WIDTH: Final = 0.06
SHOWN_QUERIES, SHOWN_HITS = 12, 5


def advise(
    photos: str | Path | Dataset,
    *,
    layout: str | None = None,
    encoder: str | None = None,
    weights: str | Path | None = None,
    minutes: float = 10.0,
    most_photos: int = 3000,
    seed: int = 0,
    device: str | None = None,
    feature_cache: str | Path | None = None,
    progress: StageProgress = lambda done, total, what: None,
) -> Advice:
    """Measure methods and code lengths on photos, and recommend one.

    The photos are sampled, copies and broken files are left out, and the features of a frozen encoder are computed
    once. Methods are then measured on new photos (B), new classes (C) and without labels (D), as far as there are
    labels and time; without any labels, by how many of the floats' nearest photos the codes find.

    Args:
        photos: a folder, a list (CSV, Parquet) or a `Dataset`, with or without labels; the files must be on this
            machine. A split `train` is fitted on and the others are measured on; without splits, they are drawn.
        layout: layout of the photos, a key of `DATASETS`. Default: detected.
        encoder: name of the backbone, or an ONNX file. Default: that of the recipe.
        weights: ``imagenet``, a file, and so on, as in `train`. Default: the recipe's.
        minutes: time that this may take. What is begun is finished.
        most_photos: size of the sample.
        seed: of the sample, the splits and the trainings.
        device: ``cpu``, ``cuda`` and so on. Default: ``cuda`` if available.
        feature_cache: folder for the features, to be used again by `train`. Default: a temporary one.
        progress: called with items done, their total, and what they are.

    Returns:
        What there is, what was measured, and the recommendation, whose recipe and changes `train` takes.

    Raises:
        ConfigError: when the encoder or its weights do not exist.
        DataError: when there are too few photos, or all labels are one class.
        MissingExtra: when a package of training is not installed.

    Examples:
        >>> import milvus_fghash as fg
        >>> print(fg.advise("photos", minutes=5).recommendation.sentence)  # doctest: +SKIP
    """
    started = time.perf_counter()
    if not minutes > 0:
        raise ConfigError(f"the time must be more than 0 minutes, got {minutes}", setting="minutes")
    if not isinstance(photos, Dataset):
        photos = read_dataset(parse_location(photos), layout)
        photos.check_paths()
    photos.check_local()
    if len({*photos.labels} - {""}) == 1:
        raise DataError(
            f"all labels in {photos.origin} are one class, {next(filter(None, photos.labels))!r}; expected at least "
            "two classes, or a list of photos without labels"
        )
    sample, survey = take_sample(photos, most_photos, seed, progress)
    changes = encoder_changes(encoder, weights)
    recipe = compose(SETTING, FLAGSHIP, changes)
    with _cache_folder(feature_cache) as folder:
        computed = sample_features(
            recipe,
            sample,
            folder,
            device_named(device),
            FEATURE_SHARE * 60 * minutes - (time.perf_counter() - started),
            lambda done, total: progress(done, total, "features"),
        )
    catalog = catalog_of(sample, computed.features, seed)
    run = Run(catalog, computed.backbone, changes, seed, started + 60 * minutes, progress)
    run.fill()
    chosen = recommended(run.cells)
    figure, value, low, high, trainings = run.interval(chosen)
    views = len(computed.features) - 1
    changes = (*changes, *ON_FEATURES_ALONE.get(chosen.method, ()))
    if views != recipe.backbone.views:
        changes = (*changes, f"backbone.views={views}")
    return Advice(
        survey=survey,
        encoder=encoder or recipe.backbone.name,
        views=views,
        encode_milliseconds=None if computed.seconds_per_view is None else 1e3 * computed.seconds_per_view,
        floats=run.floats,
        float_bytes=4 * computed.features.shape[2],
        cells=tuple(run.cells),
        left_out=tuple(run.left_out),
        recommendation=Recommendation(
            method=chosen.method,
            bits=chosen.bits,
            protocol=chosen.protocol,
            figure=figure,
            value=value,
            low=low,
            high=high,
            trainings=trainings,
            sentence=in_words(chosen, run, value, low, high),
            recipe=f"{SETTING}-{chosen.method}",
            changes=changes,
        ),
        differences=largest_differences(
            catalog, run.measured[chosen.method, chosen.bits, chosen.protocol], SHOWN_QUERIES, SHOWN_HITS
        ),
        seconds=time.perf_counter() - started,
    )


def catalog_of(sample: Dataset, features: torch.Tensor, seed: int) -> Catalog:
    """The sample with its splits, if a part is named train, or with folds."""
    named = {*sample.splits} - {""}
    has_splits = "train" in named and len(named) > 1
    options = ProtocolOptions(seed=seed, draw=seed)
    if has_splits:
        options = ProtocolOptions(query_split=",".join(sorted(named - {"train"})), seed=seed, draw=seed)
    return Catalog(features, sample.paths, sample.labels, sample.splits, options, has_splits)


@dataclass
class Run:
    """The measurements within the time."""

    catalog: Catalog
    backbone: Backbone
    changes: tuple[str, ...]
    seed: int
    deadline: float
    """In seconds of `time.perf_counter`."""
    progress: StageProgress
    cells: list[Cell] = field(default_factory=list)
    measured: dict[tuple[str, int, str], Measured] = field(default_factory=dict)
    floats: dict[str, Quality] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    unit_seconds: float = 0.0
    """Time of one step of the flagship, all lengths."""

    def recipe(self, method: str, seed: int) -> Recipe:
        return with_seed(compose(SETTING, method, (*self.changes, *ON_FEATURES_ALONE.get(method, ()))), seed)

    def fill(self) -> None:
        """Measure the plan, as far as time and classes allow; the first two steps always."""
        plan = PLAN if self.catalog.has_classes else PLAN_WITHOUT_CLASSES
        for number, (method, protocol, lengths) in enumerate(plan):
            self.progress(number, len(plan), f"{method}, protocol {protocol}")
            # One training of the recommended method is kept in reserve, for the interval.
            needed = (TIME_OF[method] + 0.5) * self.unit_seconds
            if number >= 2 and time.perf_counter() + needed > self.deadline:
                self.left_out.append(f"{method} {protocol}")
                continue
            try:
                if protocol not in self.floats and self.catalog.has_classes:
                    self.floats[protocol] = quality_of(self.catalog, self.catalog.parts(protocol, 0), None)
                started = time.perf_counter()
                found = measure(self.catalog, self.recipe(method, self.seed), lengths, protocol, self.backbone)
            except DataError as error:
                if number < 2:
                    raise
                self.left_out.append(f"{method} {protocol} ({error})")
                continue
            if method == FLAGSHIP:
                self.unit_seconds = max(self.unit_seconds, time.perf_counter() - started)
            for one in found:
                self._add(one)
                if method == "itq" and protocol == "B":
                    self._add(Measured(one.cell.model_copy(update={"protocol": "D"}), one.parts, one.codes))
        if self.catalog.has_classes:
            self.floats.setdefault("D", self.floats["B"])

    def _add(self, one: Measured) -> None:
        self.cells.append(one.cell)
        self.measured[one.cell.method, one.cell.bits, one.cell.protocol] = one

    def interval(self, chosen: Cell) -> tuple[str, float, float, float, int]:
        """Name of the figure, its mean over trainings, the ends of the interval, and the number of trainings."""
        found = [self.measured[chosen.method, chosen.bits, chosen.protocol]]
        for number in range(1, 1 + REPEATS):
            if time.perf_counter() + 0.4 * TIME_OF[chosen.method] * self.unit_seconds > self.deadline:
                break
            self.progress(number, 1 + REPEATS, "repeated for the interval")
            recipe = self.recipe(chosen.method, self.seed + number)
            fold = 0 if self.catalog.has_splits else number % FOLDS
            found += measure(self.catalog, recipe, [chosen.bits], chosen.protocol, self.backbone, fold)
        figures = [one.cell.quality.map if one.cell.quality else one.cell.neighbours for one in found]
        variances = [figure_variance(self.catalog, one) for one in found]
        mean, low, high = later_interval(figures, variances, separate=not self.catalog.has_splits)
        return "mAP" if self.catalog.has_classes else "neighbours", mean, low, high, len(found)


def recommended(cells: list[Cell]) -> Cell:
    """The shortest code close to the best, by the mean of scores on new photos and new classes; its cell of new photos.

    Only cells that were measured under as many of the two protocols as the best-measured one are compared.
    """
    scores: dict[tuple[str, int], list[float]] = defaultdict(list)
    for cell in cells:
        if cell.protocol in ("B", "C", NO_CLASSES):
            scores[cell.method, cell.bits].append(cell.score)
    most = max(len(of) for of in scores.values())
    mean = {key: sum(of) / len(of) for key, of in scores.items() if len(of) == most}
    best = max(mean.values())
    close = [key for key, score in mean.items() if score >= best - CLOSE_TO_BEST]
    method, bits = min(close, key=lambda key: (key[1], -mean[key]))
    return next(
        cell for cell in cells if (cell.method, cell.bits) == (method, bits) and cell.protocol in ("B", NO_CLASSES)
    )


def encoder_changes(encoder: str | None, weights: str | Path | None) -> tuple[str, ...]:
    """Changes of a recipe for an encoder: a backbone's name, or an ONNX file."""
    if encoder is None:
        return with_weights((), weights)
    if Path(encoder).suffix.lower() == ".onnx":
        if weights is not None:
            raise ConfigError("an ONNX file contains its weights; give no others", setting="weights")
        return with_weights(("backbone.name=onnx",), encoder)
    return with_weights((f"backbone.name={encoder}",), weights)


def in_words(chosen: Cell, run: Run, value: float, low: float, high: float) -> str:
    """The recommendation in one sentence."""
    what = f"{chosen.method} at {chosen.bits} bits ({(chosen.bits + 7) // 8} bytes a photo)"
    spread = f"{value:.3f} (90 % interval {low:.3f} to {high:.3f})"
    wide = "" if high - low <= WANTED_WIDTH else "; more photos would make the interval narrower"
    if not run.catalog.has_classes:
        return f"{what} finds this share of the 10 photos that are nearest by floats: {spread}{wide}."
    parts = [f"mAP on new photos is {spread}, where the encoder's floats have {run.floats['B'].map:.3f}"]
    known = run.measured.get((chosen.method, chosen.bits, "C"))
    if known and known.cell.quality:
        parts.append(f"and on new classes {known.cell.quality.map:.3f}, where they have {run.floats['C'].map:.3f}")
    return f"{what} fits: {' '.join(parts)}{wide}."


@contextmanager
def _cache_folder(given: str | Path | None) -> Iterator[Path]:
    if given is not None:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
