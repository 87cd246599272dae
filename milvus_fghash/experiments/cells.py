"""One training of a grid: train, encode, score. Runs in the grid's own process or in a worker process."""

from __future__ import annotations

import hashlib
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from milvus_fghash.core.atomic_io import atomic_path, write_atomic
from milvus_fghash.core.bounded_file import MAX_RECORD_BYTES, read_bounded
from milvus_fghash.core.codes import Codes, pack
from milvus_fghash.core.labels import comparable_labels
from milvus_fghash.errors import DataError, NotFinite
from milvus_fghash.evaluation import metrics
from milvus_fghash.evaluation.bit_statistics import code_health
from milvus_fghash.evaluation.protocols import ProtocolSplit
from milvus_fghash.evaluation.quality import Quality, float_ceilings
from milvus_fghash.evaluation.record import RadiusCurve, map_at_cutoffs, relevance_rule
from milvus_fghash.experiments.fits import Phase, Split
from milvus_fghash.experiments.records import Identity, Record, Score
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

_measured_floats: dict[str, dict[str, Quality]] = {}


@dataclass(frozen=True)
class GridContext:
    """What all cells of a grid share."""

    splits: dict[Phase, Split]
    """`test`: the photos to fit on, and those that are searched and queried. `trial`: two parts of the former."""
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


def run_cell(task: Task, context: GridContext) -> Record:
    """Train one cell (or resume its training), encode the photos of its protocols, score them.

    Raises:
        FghashError: whatever training raises, except for losses and outputs that are not finite: these are recorded.
    """
    split = context.splits[task.phase]
    first = next(iter(split.searches.values()))
    known = {
        "name": task.name,
        "identity": task.identity,
        "n_queries": len(first.queries),
        "n_gallery": len(first.gallery),
        "relevance": relevance_rule(split.labels),
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
            split.fitted,
            folder,
            resume=True,
            device=context.device,
            feature_cache=context.cache,
        )
        seconds = time.perf_counter() - started
        checkpoint = load_checkpoint(folder)
        coded = _coded(checkpoint, task, split, context)
    except NotFinite as error:
        return Record(**known, failed=str(error))
    if task.phase == "test" and "A" in split.searches:
        _save_codes(context.out / "codes" / f"{task.name}.npz", coded, split.searches["A"])
    history = checkpoint.state.history
    terms = dict.fromkeys(name for one in history for name in one.terms)
    with_floats = task.phase == "test" and task.recipe.backbone.frozen
    scores = {
        name: _score(task.bits, coded, search, with_floats=with_floats)
        for name, search in split.searches.items()
        if search.own_rows is None or len(search.gallery) > 1
    }
    return Record(
        **known,
        encoded=scores.pop("A", None),
        learned=_score_learned(task.bits, coded, split.searches["A"]) if "A" in split.searches else None,
        protocols=scores,
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
    """Codes of all photos of a split, and the features that they were made of."""

    codes: Codes
    labels: metrics.Labels
    names: tuple[str, ...]
    features: NDArray[np.float32]
    learned: Codes | None
    """Those of the fitted photos, which come first."""
    learned_source: str


@torch.no_grad()
def _coded(checkpoint: Checkpoint, task: Task, split: Split, context: GridContext) -> _Coded:
    device = context.torch_device
    method = checkpoint.method.to(device)
    # The training took the features of the fitted photos from the same cache.
    features = [
        dataset_features(method, part, task.recipe, context.cache, device, centre_crop_only=part is split.others)
        for part in (split.fitted, split.others)
    ]
    numbers = torch.from_numpy(split.fitted.label_numbers(checkpoint.state.classes)).to(device)
    learned = method.learned_codes(numbers)
    return _Coded(
        codes=np.concatenate([encode(method, part, device) for part in features]),
        labels=comparable_labels(split.labels)[0],
        names=split.labels,
        features=np.concatenate([part.float().cpu().numpy() for part in features]),
        learned=None if learned is None else pack(learned.float().cpu().numpy()),
        learned_source=method.learned_source,
    )


def _score(bits: int, coded: _Coded, search: ProtocolSplit, *, with_floats: bool) -> Score:
    codes, labels = coded.codes, coded.labels
    queries, gallery = search.queries, search.gallery
    pair = codes[queries], codes[gallery], labels[queries], labels[gallery]
    made = score(*pair, bits, "network", search.own_rows)
    if not with_floats:
        return made
    floats = dict(_ceilings(coded, search))
    return made.model_copy(update={"floats": floats.pop("raw"), "lda": floats})


def _score_learned(bits: int, coded: _Coded, search: ProtocolSplit) -> Score | None:
    """Protocol A with the learned codes of the gallery."""
    if coded.learned is None:
        return None
    labels = coded.labels[search.queries], coded.labels[search.gallery]
    return score(coded.codes[search.queries], coded.learned[search.gallery], *labels, bits, coded.learned_source)


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


def _ceilings(coded: _Coded, search: ProtocolSplit) -> dict[str, Quality]:
    """`float_ceilings`, once in a process for equal features, which methods of a frozen backbone share."""
    parts = (search.labelled, search.unlabelled, search.queries, search.gallery, coded.features, coded.labels)
    digest = hashlib.sha256(str([part.shape for part in parts]).encode())  # the same rows are labelled in A, not in D
    for part in parts:
        digest.update(part.tobytes())
    key = digest.hexdigest()
    if key not in _measured_floats:
        _measured_floats[key] = float_ceilings(coded.features, coded.names, search)
    return _measured_floats[key]


def _save_codes(path: Path, coded: _Coded, search: ProtocolSplit) -> None:
    """The trained photos' codes, as learned and as encoded, and those of their queries."""
    queries, gallery = search.queries, search.gallery
    labels = {"query_labels": coded.labels[queries], "gallery_labels": coded.labels[gallery]}
    codes = {"encoded": coded.codes[gallery]}
    if coded.learned is not None:
        codes["learned"] = coded.learned[gallery]
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, queries=coded.codes[queries], **codes, **labels)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from None
