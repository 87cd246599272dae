"""One training of a grid: train, encode, score. Runs in the grid's own process or in a worker process."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from milvus_fghash.core.atomic_io import atomic_path, write_atomic
from milvus_fghash.core.bounded_file import MAX_RECORD_BYTES, read_bounded
from milvus_fghash.core.codes import Codes, pack
from milvus_fghash.core.labels import comparable_labels
from milvus_fghash.datasets.dataset import Dataset, split_by_class, split_names
from milvus_fghash.errors import DataError, NotFinite
from milvus_fghash.evaluation import metrics
from milvus_fghash.evaluation.bit_statistics import code_health
from milvus_fghash.evaluation.protocols import ProtocolOptions, protocol_splits
from milvus_fghash.evaluation.quality import Quality, float_quality
from milvus_fghash.evaluation.record import RadiusCurve, map_at_cutoffs, relevance_rule
from milvus_fghash.experiments.records import Gallery, Identity, Record, Score
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.checkpoint import Checkpoint, load_checkpoint, versions
from milvus_fghash.training.device import device_named
from milvus_fghash.training.feature_cache import dataset_features
from milvus_fghash.training.run import run_training
from milvus_fghash.training.sources import encode

PRECISION_AT = (1, 10, 100)
"""The k of precision@k; values above the gallery's size are left out."""
LOSS_DIGITS = 5
"""Significant digits of a loss in a training curve."""

_measured_floats: dict[str, Quality] = {}

Phase = Literal["test", "trial"]
"""Trials choose the learning rates; test is the training and evaluation of the cells."""


@dataclass(frozen=True)
class Split:
    """The photos of one phase."""

    gallery: Dataset
    """Trained on, then searched."""
    queries: Dataset
    new_classes: Split | None = None
    """Gallery and queries of classes that are kept from training."""

    @property
    def labels(self) -> tuple[metrics.Labels, metrics.Labels]:
        """The labels of queries and gallery as the metrics compare them."""
        queries, gallery = comparable_labels(self.queries.labels, self.gallery.labels)
        return queries, gallery


@dataclass(frozen=True)
class GridContext:
    """What all cells of a grid share."""

    splits: dict[Phase, Split]
    """`test`: the training split and the test photos. `trial`: two parts of the training split."""
    out: Path
    cache: Path
    """Folder for the features of a frozen backbone."""
    device: str | None

    @property
    def torch_device(self) -> torch.device:
        return device_named(self.device)

    def training(self, task: Task) -> Path:
        """Folder of a training until it is recorded."""
        return self.out / "trainings" / task.name


@dataclass(frozen=True)
class Task:
    """One training to run, a trial or a cell."""

    name: str
    phase: Phase
    recipe: Recipe
    bits: int
    identity: Identity


def split_dataset(
    dataset: Dataset,
    train_split: str,
    query_split: str,
    held_out: float,
    new_classes: float = 0.0,
    draw: int = 0,
) -> dict[Phase, Split]:
    """The photos of a grid.

    Args:
        dataset: all photos.
        train_split: trained on, then searched.
        query_split: the queries.
        held_out: fraction of the training split that serves as queries of the trials, drawn by class; 0: no trials.
        new_classes: share of the classes that is kept from training, as in protocol C; 0: none.
        draw: seed of the draw of these classes.

    Raises:
        DataError: when a split is empty, both are the same, or a query has no class.
    """
    if both := set(split_names(query_split)) & set(split_names(train_split)):
        raise DataError(
            f"the split {min(both)!r} is used both for training and for queries; choose another split for the queries",
            setting="query_split",
        )
    unseen = None
    if new_classes:
        options = ProtocolOptions(train_split, query_split, new_classes, draw)
        (drawn,) = protocol_splits("C", dataset.labels, dataset.splits, options)
        stored, asking = (_without_splits(dataset.take(rows)) for rows in (drawn.gallery, drawn.queries))
        unseen = Split(stored, asking)
        dataset = dataset.take([row for row, name in enumerate(dataset.labels) if name not in drawn.new_classes])
    gallery, queries = (_without_splits(dataset.split(name)) for name in (train_split, query_split))
    unlabelled = sum(not label for label in queries.labels)
    if unlabelled:
        raise DataError(
            f"{unlabelled} of {len(queries)} photos of {query_split!r} have no class; every query needs one"
        )
    splits: dict[Phase, Split] = {"test": Split(gallery, queries, unseen)}
    if not held_out:
        return splits
    parted = split_by_class(gallery, held_out, 0)
    if "test" not in parted.splits:
        raise DataError(
            "each class has a single training photo, so none can be held out to choose a learning rate; expected at "
            "least two photos in one class"
        )
    splits["trial"] = Split(_without_splits(parted.split("train")), _without_splits(parted.split("test")))
    return splits


def run_cell(task: Task, context: GridContext) -> Record:
    """Train one cell (or resume its training), encode gallery and queries, score them.

    Raises:
        FghashError: whatever training raises, except for losses and outputs that are not finite: these are recorded.
    """
    split = context.splits[task.phase]
    known = {
        "name": task.name,
        "identity": task.identity,
        "n_queries": len(split.queries),
        "n_gallery": len(split.gallery),
        "relevance": relevance_rule(split.queries.labels, split.gallery.labels),
        "versions": {**versions(), "numpy": np.__version__},
        "device": context.torch_device.type,
        "threads": torch.get_num_threads(),
    }
    started = time.perf_counter()
    folder = context.training(task)
    _claim_folder(folder, task.identity)
    try:
        run_training(
            task.recipe,
            task.bits,
            split.gallery,
            folder,
            resume=True,
            device=context.device,
            feature_cache=context.cache,
        )
        seconds = time.perf_counter() - started
        checkpoint = load_checkpoint(folder)
        galleries = _galleries(checkpoint, task, split, context)
    except NotFinite as error:
        return Record(**known, failed=str(error))
    if task.phase == "test":
        _save_codes(context.out / "codes" / f"{task.name}.npz", galleries)
    history = checkpoint.state.history
    terms = dict.fromkeys(name for one in history for name in one.terms)
    with_floats = task.phase == "test" and task.recipe.backbone.frozen
    scores = {kind: _score(task.bits, *pair, with_floats=with_floats) for kind, pair in galleries.items()}
    return Record(
        **known,
        **scores,
        curve={name: tuple(float(f"{one.terms.get(name, 0.0):.{LOSS_DIGITS}g}") for one in history) for name in terms},
        seconds=sum(one.seconds for one in history) if history else seconds,
    )


def _claim_folder(folder: Path, identity: Identity) -> None:
    """Keep an unfinished training of the same identity; remove one of another, whose rounds and weights may differ."""
    file, text = folder / "identity.json", identity.model_dump_json()
    with suppress(OSError):  # no file yet, or one that no training wrote
        if read_bounded(file, MAX_RECORD_BYTES) == text.encode():
            return
    if folder.exists():
        shutil.rmtree(folder)
    write_atomic(file, text.encode())


@dataclass(frozen=True)
class _Coded:
    """Codes of photos, where they come from, and the features they were made of."""

    codes: Codes
    labels: metrics.Labels
    features: NDArray[np.float32] | None
    source: str = "network"


@torch.no_grad()
def _galleries(
    checkpoint: Checkpoint, task: Task, split: Split, context: GridContext
) -> dict[Gallery, tuple[_Coded, _Coded]]:
    """Queries and gallery by kind; where both are the same object, no query finds itself."""
    device = context.torch_device
    method = checkpoint.method.to(device)

    def coded(part: Dataset, labels: metrics.Labels, *, trained: bool = False) -> _Coded:
        # The training took the features of the gallery from the same cache.
        only = not trained
        features = dataset_features(method, part, task.recipe, context.cache, device, centre_crop_only=only)
        return _Coded(encode(method, features, device), labels, features.float().cpu().numpy())

    query_labels, gallery_labels = split.labels
    queries, gallery = coded(split.queries, query_labels), coded(split.gallery, gallery_labels, trained=True)
    found: dict[Gallery, tuple[_Coded, _Coded]] = {"encoded": (queries, gallery)}
    numbers = torch.from_numpy(split.gallery.label_numbers(checkpoint.state.classes)).to(device)
    learned = method.learned_codes(numbers)
    if learned is not None:
        codes = pack(learned.float().cpu().numpy())
        found["learned"] = (queries, _Coded(codes, gallery_labels, None, method.learned_source))
    if task.phase == "trial":
        return found
    if len(split.queries) > 1:
        found["new"] = (queries, queries)
    if split.new_classes:
        query_labels, gallery_labels = split.new_classes.labels
        unseen = split.new_classes
        found["new_classes"] = (coded(unseen.queries, query_labels), coded(unseen.gallery, gallery_labels))
    return found


def _score(bits: int, queries: _Coded, gallery: _Coded, *, with_floats: bool) -> Score:
    own_rows = np.arange(len(queries.codes)) if queries is gallery else None
    made = score(queries.codes, gallery.codes, queries.labels, gallery.labels, bits, gallery.source, own_rows)
    if not with_floats or queries.features is None or gallery.features is None:
        return made
    floats = _floats(queries.features, queries.labels, gallery.features, gallery.labels, own_rows)
    return made.model_copy(update={"floats": floats})


def score(
    queries: Codes,
    gallery: Codes,
    query_labels: metrics.Labels,
    gallery_labels: metrics.Labels,
    bits: int,
    source: str,
    own_rows: metrics.OwnRows | None = None,
) -> Score:
    """The figures of one gallery; ``own_rows`` as in `metrics`."""
    pair = (queries, query_labels, gallery, gallery_labels)
    histogram = metrics.distance_histogram(*pair, bits, own_rows)
    precision, recall = metrics.radius_curve(histogram)
    health = code_health(gallery, bits)
    return Score(
        source=source,
        map_exact=metrics.mean_average_precision(histogram),
        map_sorted=metrics.sorted_mean_average_precision(*pair, bits, own_rows),
        map_at=map_at_cutoffs(histogram, len(gallery)),
        precision_at={k: metrics.precision_at(histogram, k) for k in PRECISION_AT if k <= len(gallery)},
        reach=metrics.reach(queries, gallery, bits, own_rows),
        pr_curve=RadiusCurve(precision=tuple(precision), recall=tuple(recall)),
        distinct_codes=health.distinct_codes,
        constant_bits=health.constant_bits,
    )


def _floats(
    asking: NDArray[np.float32],
    query_labels: metrics.Labels,
    stored: NDArray[np.float32],
    gallery_labels: metrics.Labels,
    own_rows: metrics.OwnRows | None,
) -> Quality:
    """`float_quality`, once in a process for equal features: all methods of a grid share those of a frozen backbone."""
    parts = (asking, query_labels, stored, gallery_labels)
    key = hashlib.sha256(b"".join(part.tobytes() for part in parts) + str(own_rows).encode()).hexdigest()
    if key not in _measured_floats:
        _measured_floats[key] = float_quality(*parts, own_rows)
    return _measured_floats[key]


def _save_codes(path: Path, galleries: Mapping[Gallery, tuple[_Coded, _Coded]]) -> None:
    """The trained photos' codes, as learned and as encoded, and those of their queries."""
    queries, gallery = galleries["encoded"]
    labels = {"query_labels": queries.labels, "gallery_labels": gallery.labels}
    codes = {kind: galleries[kind][1].codes for kind in ("encoded", "learned") if kind in galleries}
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, queries=queries.codes, **codes, **labels)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from None


def _without_splits(dataset: Dataset) -> Dataset:
    """A training then takes all photos, whatever its recipe calls the training split."""
    return replace(dataset, splits=("",) * len(dataset))
