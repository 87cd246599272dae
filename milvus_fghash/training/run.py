"""Recipe + photos -> checkpoint: everything around the loop."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from milvus_fghash.core.callbacks import Notify, Progress
from milvus_fghash.core.codes import check_bits
from milvus_fghash.datasets.dataset import Dataset, split_by_class
from milvus_fghash.errors import ConfigError, DataError, optional_extra
from milvus_fghash.methods import card, check_backbone
from milvus_fghash.methods.base import HashMethod
from milvus_fghash.recipes.schema import Recipe, differences
from milvus_fghash.training.backbones import StagedBackbone, build_backbone
from milvus_fghash.training.checkpoint import (
    FORMAT,
    CheckpointRecord,
    RoundRecord,
    build_method,
    find_checkpoint,
    read_state,
    restore,
    save_checkpoint,
    versions,
)
from milvus_fghash.training.device import device_named
from milvus_fghash.training.feature_cache import FeatureCache
from milvus_fghash.training.loop import Optimisation, TrainingProgress, reproducible, train_round
from milvus_fghash.training.memory import keep_freed_memory
from milvus_fghash.training.photos import Photos, check
from milvus_fghash.training.sources import FeatureSource, PhotoSource, Source
from milvus_fghash.training.validation import Validation, hold_out, measure
from milvus_fghash.training.weights import by_content, decisive

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watcher:
    """What a caller may follow; every part is optional."""

    step: Callable[[TrainingProgress], None] = lambda progress: None
    round: Callable[[RoundRecord, int], object] = lambda record, rounds: None
    """Called with what a finished round gave, and the number of rounds."""
    features: Progress = lambda done, total: None
    """Called while a frozen backbone's features are computed: views done, views in all."""
    checked: Progress = lambda done, total: None
    """Called while photos are decoded once, before any work is lost to one that cannot be: photos done, and in all."""
    stage: Notify = lambda what: None
    """Called with what begins now, in a few words."""


def train(
    recipe: Recipe,
    bits: int,
    dataset: Dataset,
    out: Path,
    *,
    resume: bool = False,
    device: str | None = None,
    feature_cache: Path | None = None,
    watcher: Watcher = Watcher(),
) -> Path:
    """Train on a listing's training split; gives the folder of the last checkpoint.

    Args:
        recipe: as read; its table for ``bits`` is merged in here.
        bits: code length, 8 to 256.
        dataset: photos with labels; ``recipe.data.train_split`` names the part to train on. A listing without any
            split is taken whole.
        out: folder of the training: `checkpoints/`, `tensorboard/`, and `features/` for a frozen backbone.
        resume: go on from the newest checkpoint in ``out``; without one, start. On the CPU bit for bit the same as
            without a stop, if ``rounds`` is (a schedule follows from it).
        device: `cpu`, `cuda`, ...; default: `cuda` if there is one.
        feature_cache: folder for a frozen backbone's features, to share them between trainings.
        watcher: callbacks.

    Raises:
        ConfigError: when the recipe does not fit the photos, the method not the backbone, or ``out`` is taken.
        DataError: when photos cannot be used.
        NotFinite: when a loss is not finite.
        TrainingError: when a checkpoint cannot be used.
    """
    check_bits(bits)
    recipe = recipe.at(bits)
    check_backbone(recipe.method.name, frozen=recipe.backbone.frozen)
    photos, held_out = _split(dataset, recipe)
    classes = photos.classes
    check_classes(photos, recipe)
    photos.keep_apart(out)
    cache = feature_cache or out / "features"
    target = device_named(device)
    if target.type == "cpu":
        keep_freed_memory()
    labels = torch.from_numpy(photos.label_numbers(classes))

    with _folders(out, cache), reproducible(recipe.training.deterministic):
        torch.manual_seed(recipe.training.seed)
        found = find_checkpoint(out)
        if found and not resume:
            raise ConfigError(
                f"{out} already holds a training; go on with it, or choose another folder", setting="resume out"
            )
        state = read_state(found) if found else None
        watcher.stage(f"building {recipe.method.name} on {recipe.backbone.name}")
        backbone = build_backbone(recipe.backbone.name, "none" if state else recipe.backbone.weights)
        method = build_method(recipe, bits, backbone, len(classes), len(photos))
        if state:
            _check_same(state, recipe, bits, photos, out)
            backbone.mean, backbone.std, backbone.licence = state.mean, state.std, state.weights_licence
            state = state.model_copy(update={"recipe": by_content(recipe)})  # may ask for more rounds than before
        else:
            state = _fresh_state(recipe, bits, backbone, photos)
        momenta = restore(method, found) if found else {}
        method.to(target)
        plan = recipe.training
        if plan.channels_last:
            method.backbone.to(memory_format=torch.channels_last)

        source = _source(method, photos, recipe, cache, target, watcher, fresh=found is None)
        if held_out:
            watcher.stage(f"preparing {len(held_out):,} photos held out for validation")
        validation = hold_out(method, held_out, classes, recipe, target, cache) if held_out else None
        if not found and method.wants_features:
            watcher.stage(f"fitting {recipe.method.name} to the features")
            method.fit(source.centre_crop_features().to(target), labels.to(target))
        if not card(recipe.method.name).by_gradient:
            return found or save_checkpoint(out / "checkpoints", state, method, {})
        optimisation = Optimisation.of(method, plan, recipe.backbone.frozen, target)
        optimisation.restore(method, momenta)
        if state.scaler:
            optimisation.scaler.load_state_dict(state.scaler)
        return _rounds(method, source, validation, labels.to(target), optimisation, state, out, watcher, found)


def _rounds(
    method: HashMethod,
    source: Source,
    validation: Validation | None,
    labels: Tensor,
    optimisation: Optimisation,
    state: CheckpointRecord,
    out: Path,
    watcher: Watcher,
    newest: Path | None,
) -> Path:
    with optional_extra("train"):
        from torch.utils.tensorboard import SummaryWriter
    plan = state.recipe.training
    watcher.stage(
        f"rounds {state.rounds_done + 1:,} to {plan.rounds:,}, {plan.epochs_per_round:,} passes each, "
        f"{len(labels):,} photos"
    )
    with SummaryWriter(str(out / "tensorboard"), purge_step=state.rounds_done + 1) as board:
        for number in range(state.rounds_done, plan.rounds):
            started = time.perf_counter()
            progress = train_round(method, source, labels, plan, number, optimisation, watcher.step)
            gallery, quality = measure(method, source, labels, validation) if validation else (None, None)
            record = RoundRecord(
                round=number + 1,
                learning_rate=optimisation.optimiser.param_groups[0]["lr"],
                terms=progress.terms,
                seconds=time.perf_counter() - started,
                images_per_second=progress.images_per_second,
                validation_map=quality,
                validation_gallery=gallery,
            )
            state = state.model_copy(
                update={
                    "rounds_done": number + 1,
                    "history": (*state.history, record),
                    "scaler": dict(optimisation.scaler.state_dict()) or None,
                }
            )
            newest = save_checkpoint(out / "checkpoints", state, method, optimisation.momenta(method))
            scalars = {f"loss/{name}": value for name, value in record.terms.items()}
            scalars |= {"learning_rate": record.learning_rate, "images_per_second": record.images_per_second}
            if quality is not None:
                scalars[f"validation/map_{gallery}"] = quality
            for name, value in scalars.items():
                board.add_scalar(name, value, number + 1)
            watcher.round(record, plan.rounds)
    assert newest is not None
    return newest


def _split(dataset: Dataset, recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    photos = dataset.split(recipe.data.train_split) if any(dataset.splits) else dataset
    if not recipe.data.validation:
        return photos, None
    parted = split_by_class(photos, recipe.data.validation, recipe.training.seed)
    if "test" not in parted.splits:
        raise DataError("each class has one training photo only: none can be held out. Set data.validation=0")
    return parted.split("train"), parted.split("test")


def check_classes(photos: Dataset, recipe: Recipe) -> None:
    """Whether the method can learn from the classes of these photos.

    Raises:
        DataError: when it needs labels and there are none, or one for all.
    """
    if not card(recipe.method.name).labels:
        return
    nameless = photos.labels.count("")
    source = photos.read_report.classes
    if nameless:
        raise DataError(
            f"{nameless} of {len(photos)} training photos in {photos.origin} have no class, and {recipe.method.name} "
            f"needs one for each: a folder for each class, or a column 'label' in a list{source and f' ({source})'}"
        )
    if len(photos.classes) < 2:
        raise DataError(
            f"the {len(photos)} training photos in {photos.origin} are all of one class "
            f"({photos.classes[0]!r}{source and f', {source}'}); {recipe.method.name} learns from classes and needs at "
            "least two"
        )


def _check_same(state: CheckpointRecord, recipe: Recipe, bits: int, photos: Dataset, out: Path) -> None:
    """A training goes on with what it began with; beside what decides no figure only its length may change."""
    old, new = (
        {**decisive(one).model_dump(mode="json"), "bits": length}
        for one, length in ((state.recipe, state.bits), (by_content(recipe), bits))
    )
    for place, then, now in differences(old, new):
        if place != "training.rounds":
            raise ConfigError(
                f"{out} was begun with {place} = {then}, and now it is {now}; go on with what it was begun with, or "
                "choose another folder",
                setting="out",
            )
    if state.train_ids != photos.ids:
        raise ConfigError(f"{out} was begun with other training photos; choose another folder", setting="out")
    if state.train_labels != photos.labels:
        changed = sum(then != now for then, now in zip(state.train_labels, photos.labels, strict=True))
        raise ConfigError(
            f"{out} was begun with other classes of {changed:,} of these photos: {len(state.classes):,} classes then, "
            f"{len(photos.classes):,} now ({photos.read_report.classes}); read them as then, or choose another folder",
            setting="out",
        )


def _fresh_state(recipe: Recipe, bits: int, backbone: StagedBackbone, photos: Dataset) -> CheckpointRecord:
    return CheckpointRecord(
        format=FORMAT,
        lineage=uuid.uuid4().hex,
        bits=bits,
        recipe=by_content(recipe),
        rounds_done=0,
        mean=backbone.mean,
        std=backbone.std,
        weights_licence=backbone.licence,
        classes=photos.classes,
        train_ids=photos.ids,
        train_labels=photos.labels,
        history=(),
        versions=versions(),
    )


@contextmanager
def _folders(*folders: Path) -> Iterator[None]:
    """Made before any work, so that a place that cannot be written to is known at once; left empty, they go again."""
    made = []
    try:
        for folder in folders:
            if not folder.exists():
                made.append(folder)
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror}. Give another one") from None
    try:
        yield
    finally:
        for folder in reversed(made):
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _source(
    method: HashMethod,
    dataset: Dataset,
    recipe: Recipe,
    cache: Path,
    device: torch.device,
    watcher: Watcher,
    *,
    fresh: bool,
) -> Source:
    photos = Photos(dataset, recipe.preprocessing, recipe.augmentation)
    if not recipe.backbone.frozen:
        if fresh:
            watcher.stage(f"checking {len(photos):,} photos")
            check(photos, range(len(photos)), recipe.training.workers, watcher.checked)
        return PhotoSource(method, photos, recipe, device)
    method.backbone.requires_grad_(False)
    watcher.stage(f"features of the frozen backbone for {len(photos):,} photos")
    features = FeatureCache(method, photos, recipe, cache, device).read(watcher.features, watcher.checked)
    return FeatureSource(features, device)
