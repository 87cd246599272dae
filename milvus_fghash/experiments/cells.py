"""One cell of a grid: train, encode, score. Runs in the grid's own process or in a worker's."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from milvus_fghash.core.atomic_io import write_atomic, written
from milvus_fghash.core.bounded_file import NOTE_BYTES, read_bounded
from milvus_fghash.core.codes import Codes, pack
from milvus_fghash.datasets.dataset import Dataset, split_by_class, split_names
from milvus_fghash.errors import DataError, NotFinite
from milvus_fghash.evaluation import metrics
from milvus_fghash.evaluation.bit_statistics import code_health
from milvus_fghash.evaluation.record import GalleryKind, RadiusCurve
from milvus_fghash.experiments.records import Identity, Record, Score
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.checkpoint import Checkpoint, load_checkpoint, versions
from milvus_fghash.training.device import device_named
from milvus_fghash.training.encode import encode
from milvus_fghash.training.feature_cache import represented
from milvus_fghash.training.run import train

PLACES = (1, 10, 100)
"""The k of precision@k; those beyond the gallery's size are left out."""
DIGITS = 5
"""Significant ones, of a loss in a training curve."""

Part = Literal["test", "trial"]


@dataclass(frozen=True)
class Split:
    """Photos that are trained on and then searched, and photos that ask."""

    gallery: Dataset
    queries: Dataset

    @property
    def labels(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Class numbers of queries and gallery; -1 for a gallery photo without a class."""
        known = sorted({*self.queries.labels, *self.gallery.labels} - {""})
        number = {name: place for place, name in enumerate(known)}
        queries, gallery = (
            np.array([number.get(label, -1) for label in part.labels], np.int64)
            for part in (self.queries, self.gallery)
        )
        return queries, gallery


@dataclass(frozen=True)
class GridContext:
    """What all cells of a grid share."""

    splits: dict[Part, Split]
    """`test`: the whole training split and the test photos. `trial`: two parts of the training split."""
    out: Path
    cache: Path
    """Folder of a frozen trunk's features."""
    device: str | None

    @property
    def torch_device(self) -> torch.device:
        return device_named(self.device)

    def training(self, task: Task) -> Path:
        """Folder of a cell's training while it is not recorded."""
        return self.out / "trainings" / task.name


@dataclass(frozen=True)
class Task:
    """One cell to be run."""

    name: str
    part: Part
    recipe: Recipe
    bits: int
    identity: Identity


def split_photos(dataset: Dataset, train_split: str, query_split: str, held_out: float) -> dict[Part, Split]:
    """The photos of a grid. Trials see the training split alone, of which ``held_out`` is drawn by class to ask; with 0
    there are no trials.

    Raises:
        DataError: when a split is empty, both are one, or a query has no class.
    """
    if both := set(split_names(query_split)) & set(split_names(train_split)):
        raise DataError(
            f"the photos of {min(both)!r} are trained on and searched by; search by others", setting="query_split"
        )
    gallery, queries = (_whole(dataset.split(name)) for name in (train_split, query_split))
    unlabelled = sum(not label for label in queries.labels)
    if unlabelled:
        raise DataError(
            f"{unlabelled} of {len(queries)} photos of {query_split!r} have no class; queries need one each"
        )
    splits: dict[Part, Split] = {"test": Split(gallery, queries)}
    if not held_out:
        return splits
    parted = split_by_class(gallery, held_out, 0)
    if "test" not in parted.splits:
        raise DataError("each class has one training photo only: none can be held out to choose a learning rate")
    splits["trial"] = Split(_whole(parted.split("train")), _whole(parted.split("test")))
    return splits


def run_cell(task: Task, bench: GridContext) -> Record:
    """Train one cell (or go on with its training), encode gallery and queries, score them.

    Raises:
        FghashError: whatever training raises, but for losses and outputs that are not finite: they are recorded.
    """
    split = bench.splits[task.part]
    known = {
        "name": task.name,
        "identity": task.identity,
        "n_queries": len(split.queries),
        "n_gallery": len(split.gallery),
        "versions": {**versions(), "numpy": np.__version__},
        "device": bench.torch_device.type,
        "threads": torch.get_num_threads(),
    }
    started = time.perf_counter()
    folder = bench.training(task)
    _begin(folder, task.identity)
    try:
        train(
            task.recipe, task.bits, split.gallery, folder, resume=True, device=bench.device, feature_cache=bench.cache
        )
        seconds = time.perf_counter() - started
        checkpoint = load_checkpoint(folder)
        queries, galleries = codes_of(checkpoint, task.recipe, split, bench)
    except NotFinite as error:
        return Record(**known, failed=str(error))
    if task.part == "test":
        _keep_codes(bench.out / "codes" / f"{task.name}.npz", queries, galleries, split)
    history = checkpoint.state.history
    terms = dict.fromkeys(name for one in history for name in one.terms)
    sources = {"encoded": "network", "learned": checkpoint.method.learned_source}
    return Record(
        **known,
        **{kind: score(queries, codes, *split.labels, task.bits, sources[kind]) for kind, codes in galleries.items()},
        curve={name: tuple(float(f"{one.terms.get(name, 0.0):.{DIGITS}g}") for one in history) for name in terms},
        seconds=sum(one.seconds for one in history) if history else seconds,
    )


def _begin(folder: Path, identity: Identity) -> None:
    """Leave what a kill left of this very training, and nothing of another one: its rounds and weights may differ."""
    told, text = folder / "identity.json", identity.model_dump_json()
    with suppress(OSError):  # none yet, or nothing that a training wrote
        if read_bounded(told, NOTE_BYTES) == text.encode():
            return
    if folder.exists():
        shutil.rmtree(folder)
    write_atomic(told, text.encode())


@torch.no_grad()
def codes_of(
    checkpoint: Checkpoint, recipe: Recipe, split: Split, bench: GridContext
) -> tuple[Codes, dict[GalleryKind, Codes]]:
    """Codes of the queries, and of the gallery by kind."""
    device = bench.torch_device
    method = checkpoint.method.to(device)

    # A training photo's features are those that its training took from the cache.
    queries = encode(method, represented(method, split.queries, recipe, bench.cache, device, plain=True), device)
    gallery = encode(method, represented(method, split.gallery, recipe, bench.cache, device, plain=False), device)
    galleries: dict[GalleryKind, Codes] = {"encoded": gallery}
    numbers = torch.from_numpy(split.gallery.label_numbers(checkpoint.state.classes)).to(device)
    learned = method.learned_codes(numbers)
    if learned is not None:
        galleries["learned"] = pack(learned.float().cpu().numpy())
    return queries, galleries


def score(
    queries: Codes,
    gallery: Codes,
    query_labels: NDArray[np.int64],
    gallery_labels: NDArray[np.int64],
    bits: int,
    source: str,
) -> Score:
    """What a record says of one gallery."""
    pair = (queries, query_labels, gallery, gallery_labels)
    histogram = metrics.distance_histogram(*pair, bits)
    precision, recall = metrics.radius_curve(histogram)
    health = code_health(gallery, bits)
    return Score(
        source=source,
        map_exact=metrics.mean_average_precision(histogram),
        map_sorted=metrics.sorted_mean_average_precision(*pair, bits),
        precision_at={k: metrics.precision_at(histogram, k) for k in PLACES if k <= len(gallery)},
        pr_curve=RadiusCurve(precision=tuple(precision), recall=tuple(recall)),
        distinct_codes=health.distinct_codes,
        constant_bits=health.constant_bits,
    )


def _keep_codes(path: Path, queries: Codes, galleries: dict[GalleryKind, Codes], split: Split) -> None:
    query_labels, gallery_labels = split.labels
    labels = {"query_labels": query_labels, "gallery_labels": gallery_labels}
    codes = {str(kind): stored for kind, stored in galleries.items()}
    try:
        with written(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, queries=queries, **codes, **labels)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from None


def _whole(dataset: Dataset) -> Dataset:
    """Without splits, so that a training takes all of it, whatever its recipe calls the training split."""
    return replace(dataset, splits=("",) * len(dataset))
