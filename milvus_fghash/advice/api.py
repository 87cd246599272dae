"""`advise`, the public entry: photos -> which method and how many bits fit them."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from milvus_fghash.advice.encoder import sample_features
from milvus_fghash.advice.measure import FOLDS, Catalog, largest_differences
from milvus_fghash.advice.result import Advice, Cell, Recommendation, Survey
from milvus_fghash.advice.run import FLAGSHIP, SETTING, Clock, Run, recommended
from milvus_fghash.advice.sample import measured_photos, take_sample
from milvus_fghash.core.callbacks import StageProgress
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.read import parse_location, read_dataset
from milvus_fghash.errors import ConfigError, DataError, check_not_string
from milvus_fghash.evaluation.protocols import ProtocolOptions
from milvus_fghash.methods import ON_FEATURES_ALONE
from milvus_fghash.recipes.loader import compose, with_weights
from milvus_fghash.training.device import device_named
from milvus_fghash.training.draws import with_seed

FEWEST_QUERIES: Final = 10
"""Queries of each measurement at least."""
FEATURE_SHARE: Final = 0.4
"""Share of the time for the features."""
WANTED_WIDTH: Final = 0.06
SHOWN_QUERIES, SHOWN_HITS = 12, 5


def advise(
    photos: str | Path | Dataset,
    *,
    layout: str | None = None,
    encoder: str | None = None,
    weights: str | Path | None = None,
    changes: Sequence[str] = (),
    minutes: float = 10.0,
    most_photos: int = 6000,
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
        changes: changes of the encoder or the preprocessing in all recipes, KEY=VALUE each, such as
            ``preprocessing.resize_mode='stretch'``.
        minutes: time that this may take. What is begun is finished.
        most_photos: size of the sample; it is smaller where the time is too short for the features.
        seed: of the sample, the splits and the trainings.
        device: ``cpu``, ``cuda`` and so on. Default: ``cuda`` if available.
        feature_cache: folder for the features, to be used again by `train`. Default: a temporary one.
        progress: called with items done, their total, and what they are; where nothing is counted, both numbers are 0.

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
    clock = Clock(time.perf_counter(), 60 * minutes)
    if not minutes > 0:
        raise ConfigError(f"the time must be more than 0 minutes, got {minutes}", setting="minutes")
    if not isinstance(photos, Dataset):
        photos = read_dataset(parse_location(photos), layout)
        photos.check_paths()
    photos.check_local()
    changes = (*encoder_changes(encoder, weights), *check_not_string(changes, "changes"))
    sample, survey = take_sample(photos, most_photos, seed, progress)
    recipe = with_seed(compose(SETTING, FLAGSHIP, changes), seed)
    with _cache_folder(feature_cache) as folder:
        computed = sample_features(
            recipe,
            sample,
            folder,
            device_named(device),
            FEATURE_SHARE * clock.seconds - clock.elapsed,
            lambda done, total: progress(done, total, "features"),
        )
    sample = sample.take(computed.rows)
    survey = survey.model_copy(update=measured_photos(sample))
    catalog = catalog_of(sample, computed.features, seed)
    run = Run(catalog, computed.backbone, changes, seed, clock, progress)
    run.fill()
    chosen = recommended(run.cells)
    value, low, high, trainings = run.interval(chosen)
    views = len(computed.features) - 1
    changes = (*changes, *ON_FEATURES_ALONE.get(chosen.method, ()))
    if views != recipe.backbone.views:
        changes = (*changes, f"backbone.views={views}")
    return Advice(
        survey=survey,
        encoder=encoder or recipe.backbone.name,
        views=views,
        encode_milliseconds=None if computed.seconds_per_photo is None else 1e3 * computed.seconds_per_photo,
        query_split=catalog.options.query_split if catalog.has_splits else "",
        floats=run.floats,
        float_bytes=4 * computed.features.shape[2],
        cells=tuple(run.cells),
        left_out=run.left_out,
        recommendation=Recommendation(
            method=chosen.method,
            bits=chosen.bits,
            protocol=chosen.protocol,
            figure="mAP" if catalog.has_classes else "neighbours",
            value=value,
            low=low,
            high=high,
            trainings=trainings,
            sentence=in_words(chosen, run, survey, value, low, high),
            recipe=f"{SETTING}-{chosen.method}",
            changes=changes,
        ),
        differences=largest_differences(
            catalog, run.measured[chosen.method, chosen.bits, chosen.protocol], SHOWN_QUERIES, SHOWN_HITS
        ),
        seconds=clock.elapsed,
    )


def catalog_of(sample: Dataset, features: torch.Tensor, seed: int) -> Catalog:
    """The sample with its splits, if one is named train and enough photos are in others, else with folds.

    Raises:
        DataError: when too few photos have another one of their class.
    """
    named = {*sample.splits} - {""}
    tested = [label for label, split in zip(sample.labels, sample.splits, strict=True) if split not in ("", "train")]
    has_splits = "train" in named and _can_measure(tested, has_classes=any(sample.labels))
    queried = ",".join(sorted(named - {"train"})) if has_splits else "test"
    # As `evaluate` measures new photos: each photo is a query among all others.
    options = ProtocolOptions(query_split=queried, parts=1, seed=seed, draw=seed)
    if not has_splits and any(sample.labels) and not _can_measure(sample.labels, FOLDS, has_classes=True):
        raise DataError(
            f"in {sample.origin} fewer than {FOLDS * FEWEST_QUERIES} photos have another one of their class, too few "
            "to measure on. Add photos of the classes, or take a list of the photos without labels"
        )
    return Catalog(features, sample.paths, sample.labels, sample.splits, options, has_splits)


def _can_measure(labels: Sequence[str], folds: int = 1, *, has_classes: bool) -> bool:
    """Whether each fold has enough queries: photos that have another one of their class there."""
    if not has_classes:
        return len(labels) >= folds * FEWEST_QUERIES
    shares = [count // folds for label, count in Counter(labels).items() if label]
    return sum(count for count in shares if count > 1) >= FEWEST_QUERIES


def encoder_changes(encoder: str | None, weights: str | Path | None) -> tuple[str, ...]:
    """Changes of a recipe for an encoder: a backbone's name, or an ONNX file."""
    if encoder is None:
        return with_weights((), weights)
    if Path(encoder).suffix.lower() == ".onnx":
        if weights is not None:
            raise ConfigError("an ONNX file contains its weights; give no others", setting="weights")
        return with_weights(("backbone.name=onnx",), encoder)
    return with_weights((f"backbone.name={encoder}",), weights)


def in_words(chosen: Cell, run: Run, survey: Survey, value: float, low: float, high: float) -> str:
    """The recommendation in one sentence, and a second one where the sample was not all photos."""
    what = f"{chosen.method} at {chosen.bits} bits ({(chosen.bits + 7) // 8} bytes a photo)"
    spread = f"{value:.3f} (90 % interval {low:.3f} to {high:.3f})"
    wide = "" if high - low <= WANTED_WIDTH else "; with more photos the interval would be narrower"
    left = survey.photos - survey.copies - survey.unreadable - survey.sampled
    of_all = " Trained on all photos, it usually finds more than it did on this sample." if left else ""
    if not run.catalog.has_classes:
        return f"{what} finds this share of the 10 photos that are nearest by floats: {spread}{wide}.{of_all}"
    parts = [f"mAP on new photos is {spread}, where the encoder's floats have {run.floats['B'].map:.3f}"]
    known = run.measured.get((chosen.method, chosen.bits, "C"))
    if known and known.cell.quality:
        parts.append(f"and on new classes {known.cell.quality.map:.3f}, where they have {run.floats['C'].map:.3f}")
    return f"{what} fits: {' '.join(parts)}{wide}.{of_all}"


@contextmanager
def _cache_folder(given: str | Path | None) -> Iterator[Path]:
    if given is not None:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
