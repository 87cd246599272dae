"""Recipe + photos -> checkpoint: everything around the loop."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from milvus_fghash.bundle.training_photos import SALT_BYTES, TrainingPhotos
from milvus_fghash.core.callbacks import Notify, Progress, StageProgress
from milvus_fghash.core.code_length import check_bits
from milvus_fghash.core.labels import comparable_labels
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.methods import card, check_backbone
from milvus_fghash.methods.base import Backbone, HashMethod, Sizes
from milvus_fghash.recipes.schema import Recipe, TrainingPlan, differences
from milvus_fghash.training.backbones import chosen_backbone, with_own_preprocessing
from milvus_fghash.training.checkpoint import (
    FORMAT,
    CheckpointRecord,
    RoundRecord,
    build_method,
    find_checkpoint,
    read_state,
    read_training_photos,
    restore,
    restored_backbone,
    save_checkpoint,
    versions,
)
from milvus_fghash.training.device import device_named, keep_freed_memory, reproducible
from milvus_fghash.training.draws import with_least_steps
from milvus_fghash.training.feature_cache import FeatureCache
from milvus_fghash.training.loop import Optimisation, TrainingProgress, train_round
from milvus_fghash.training.photos import Photos, check
from milvus_fghash.training.sources import FeatureSource, PhotoSource, Source
from milvus_fghash.training.training_set import TrainingSet, check_classes, named_classes, training_set
from milvus_fghash.training.validation import Validation, hold_out, measure
from milvus_fghash.training.weights import by_content, decisive

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

NO_CURVES = (
    "tensorboard is not installed, so no training curves are written. "
    "To get them: pip install 'milvus-fghash[tensorboard]'"
)


@dataclass(frozen=True)
class Watcher:
    """Callbacks of a training; each is optional.

    Attributes:
        step: called after each batch with the round, the epoch, the means of the loss terms and the photos per second.
        round: called after each round with its record and the total number of rounds.
        features: called while features of a frozen backbone are computed, with views done and their total.
        checked: called while photos are decoded once before training, with photos done and their total.
        fitting: called while a method is fitted to the features, if that takes long, with items done, their total and
            what they are.
        stage: called with a few words when a new stage of the work begins.
        notify: called with messages for the user.

    Examples:
        >>> import milvus_fghash as fg
        >>> watcher = fg.Watcher(round=lambda record, rounds: print(record.round, "of", rounds, record.terms))
        >>> fg.train("frozen-posterior-itq", "photos", out="runs/birds", watcher=watcher)  # doctest: +SKIP
    """

    step: Callable[[TrainingProgress], object] = lambda progress: None
    round: Callable[[RoundRecord, int], object] = lambda record, rounds: None
    features: Progress = lambda done, total: None
    checked: Progress = lambda done, total: None
    fitting: StageProgress = lambda done, total, what: None
    stage: Notify = lambda what: None
    notify: Notify = lambda message: None


def run_training(
    recipe: Recipe,
    bits: int,
    dataset: Dataset | None,
    out: Path,
    *,
    catalog: Dataset | None = None,
    resume: bool = False,
    device: str | None = None,
    feature_cache: Path | None = None,
    watcher: Watcher = Watcher(),
) -> Path:
    """Train on the training split of a dataset; returns the folder of the last checkpoint.

    Args:
        recipe: its ``by_bits`` table for ``bits`` is merged in here.
        bits: code length, 8 to 1024.
        dataset: photos; ``recipe.data.train_split`` names the split to train on. Without splits, all are used.
        out: folder of the training: `checkpoints/`, `tensorboard/`, and `features/` for a frozen backbone.
        catalog: further photos, of the user's own catalog, all of which are trained on; the only ones without a
            dataset.
        resume: continue from the newest checkpoint in ``out``; start if there is none. On the CPU the result is bit for
            bit that of an uninterrupted training with the same ``rounds`` (the schedule depends on them).
        device: `cpu`, `cuda`, ...; default: `cuda` if there is one.
        feature_cache: folder for the features of a frozen backbone, to share them between trainings.
        watcher: callbacks.

    Raises:
        ConfigError: when the recipe does not fit the photos, or the method the backbone, or ``out`` is taken.
        DataError: when photos cannot be used.
        NotFinite: when a loss is not finite.
        TrainingError: when a checkpoint cannot be used.
    """
    check_bits(bits)
    recipe = with_own_preprocessing(recipe.at(bits))
    plan, name, frozen = recipe.training, recipe.method.name, recipe.backbone.frozen
    check_backbone(name, frozen=frozen)
    selected = training_set(dataset, catalog, recipe.data, plan.seed, frozen=recipe.backbone.frozen)
    train_set, held_out = selected.photos, selected.held_out
    check_classes(train_set, name)
    if notice := selected.notice(name):
        watcher.notify(notice)
    for part in filter(None, (dataset, catalog)):
        part.keep_apart(out)
    cache_folder = feature_cache or out / "features"
    target = device_named(device)
    if target.type == "cpu":
        keep_freed_memory()
    labels = torch.from_numpy(train_set.label_numbers(named_classes(train_set))).to(target)

    def photos_of(part: Dataset) -> Photos:
        return Photos(part, recipe.preprocessing, recipe.augmentation)

    def cache_of(photos: Photos, *, centre_crop_only: bool) -> FeatureCache | None:
        if not frozen:
            return None
        views = recipe.backbone.views
        return FeatureCache(method, photos, cache_folder, target, views, plan.workers, centre_crop_only)

    with _folders(out, cache_folder), reproducible(plan.deterministic):
        torch.manual_seed(plan.seed)
        found = find_checkpoint(out)
        if found and not resume:
            raise ConfigError(
                f"{out} already holds a training; resume it, or choose another folder", setting="resume out"
            )
        watcher.stage(f"building {name} on {recipe.backbone.name}")
        method, state, momenta = _built(recipe, bits, selected, out, found)
        method.to(target)
        if plan.channels_last:
            method.backbone.to(memory_format=torch.channels_last)

        photos = photos_of(train_set)
        cache = cache_of(photos, centre_crop_only=False)
        source = _source(method, photos, cache, plan, target, watcher, checked=found is not None)
        validation = None
        if held_out:
            watcher.stage(f"preparing {len(held_out):,} photos held out for validation")
            photos = photos_of(held_out)
            compared = comparable_labels(held_out.labels, train_set.labels)
            cache = cache_of(photos, centre_crop_only=True)
            validation = hold_out(method, photos, compared, target, workers=plan.workers, cache=cache)
        if not found and method.wants_features:
            watcher.stage(f"fitting {name} to the features")
            method.report = watcher.fitting
            method.fit(source.centre_crop_features().to(target), labels)
        if not card(name).by_gradient:
            return found or save_checkpoint(
                out / "checkpoints", state, method, {}, training_photos(train_set, name, state.lineage)
            )
        optimisation = Optimisation.of(method, plan, frozen, target)
        optimisation.restore(method, momenta)
        if state.scaler:
            optimisation.scaler.load_state_dict(state.scaler)
        record = read_training_photos(found, state) if found else None
        record = record or training_photos(train_set, name, state.lineage)
        return _rounds(method, source, validation, labels, optimisation, state, record, out, watcher, found)


def _built(
    recipe: Recipe, bits: int, selected: TrainingSet, out: Path, found: Path | None
) -> tuple[HashMethod, CheckpointRecord, dict[str, Tensor]]:
    """The method, the state of its training and its momenta: as a checkpoint has them, or at the start.

    Raises:
        ConfigError: when the checkpoint is of another training.
        TrainingError: when the checkpoint cannot be used.
    """
    state = read_state(found) if found else None
    if state and found:
        backbone = restored_backbone(state, found)
    else:
        backbone = chosen_backbone(recipe.backbone, recipe.preprocessing.size)
    sizes = Sizes.of(bits, selected.photos.labels, named_classes(selected.photos))
    method = build_method(recipe.method, recipe.head, backbone, sizes)
    if state:
        _check_same(state, recipe, bits, selected, out)
        state = state.model_copy(update={"recipe": by_content(recipe)})  # may have more rounds than before
    else:
        state = _fresh_state(recipe, bits, backbone, selected)
    return method, state, restore(method, found) if found else {}


def _source(
    method: HashMethod,
    photos: Photos,
    cache: FeatureCache | None,
    plan: TrainingPlan,
    target: torch.device,
    watcher: Watcher,
    *,
    checked: bool,
) -> Source:
    """Where the loop gets its batches: the cached features of a frozen backbone, or the photos, all ``checked``."""
    if cache:
        method.backbone.requires_grad_(False)
        views = f", {cache.views_per_photo} views each" if cache.views_per_photo > 1 else ""
        watcher.stage(f"features of the frozen backbone for {len(photos):,} photos{views}")
        return FeatureSource(cache.read(watcher.features, watcher.checked), target)
    if not checked:
        watcher.stage(f"checking {len(photos):,} photos")
        check([(photos, range(len(photos)))], plan.workers, watcher.checked)
    return PhotoSource(method, photos, plan, target)


def _rounds(
    method: HashMethod,
    source: Source,
    validation: Validation | None,
    labels: Tensor,
    optimisation: Optimisation,
    state: CheckpointRecord,
    photos: TrainingPhotos,
    out: Path,
    watcher: Watcher,
    newest: Path | None,
) -> Path:
    plan = with_least_steps(state.recipe.training, len(labels))
    watcher.stage(
        f"rounds {state.rounds_done + 1:,} to {plan.rounds:,}, {plan.epochs_per_round:,} passes each, "
        f"{len(labels):,} photos"
    )
    with _curves(out / "tensorboard", state.rounds_done + 1, watcher.notify) as curves:
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
            newest = save_checkpoint(out / "checkpoints", state, method, optimisation.momenta(method), photos)
            if curves:
                _add_points(curves, record)
            watcher.round(record, plan.rounds)
    assert newest is not None
    return newest


@contextmanager
def _curves(folder: Path, first_round: int, notify: Notify) -> Iterator[SummaryWriter | None]:
    """A writer of tensorboard files; None, and one message, where tensorboard is not installed."""
    with ExitStack() as stack:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError:
            notify(NO_CURVES)
            yield None
        else:
            yield stack.enter_context(SummaryWriter(str(folder), purge_step=first_round))


def _add_points(curves: SummaryWriter, record: RoundRecord) -> None:
    scalars = {f"loss/{name}": value for name, value in record.terms.items()}
    scalars |= {"learning_rate": record.learning_rate, "images_per_second": record.images_per_second}
    if record.validation_map is not None:
        scalars[f"validation/map_{record.validation_gallery}"] = record.validation_map
    for name, value in scalars.items():
        curves.add_scalar(name, value, record.round)


def training_photos(photos: Dataset, method: str, lineage: str) -> TrainingPhotos:
    """The record of which photos a training sees, salted with the lineage; their labels only if the method uses them.

    Raises:
        DataError: when a photo cannot be read.
    """
    shas = []
    for row in range(len(photos)):
        try:
            with photos.file(row).open("rb") as file:
                shas.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise DataError(f"cannot read {photos.file(row)}: {error.strerror}") from None
    labels = photos.labels if card(method).labels else ("",) * len(photos)
    return TrainingPhotos.of(shas, labels, hashlib.blake2b(lineage.encode(), digest_size=SALT_BYTES).digest())


def _check_same(state: CheckpointRecord, recipe: Recipe, bits: int, selected: TrainingSet, out: Path) -> None:
    """Reject a resumed training that differs from the started one in more than its length or what changes no result."""
    old, new = (
        {**decisive(one).model_dump(mode="json"), "bits": length}
        for one, length in ((state.recipe, state.bits), (by_content(recipe), bits))
    )
    for place, then, now in differences(old, new):
        if place != "training.rounds":
            raise ConfigError(
                f"{out} was started with {place} = {then}, and now it is {now}; resume it with the same settings, or "
                "choose another folder",
                setting="out",
            )
    photos = selected.photos
    if (state.train_ids, state.n_catalog) != (photos.ids, selected.n_catalog):
        raise ConfigError(f"{out} was started with other training photos; choose another folder", setting="out")
    if state.train_labels != photos.labels:
        changed = sum(then != now for then, now in zip(state.train_labels, photos.labels, strict=True))
        raise ConfigError(
            f"{out} was started with other classes for {changed:,} of these photos: {len(state.classes):,} classes "
            f"then, {len(photos.classes):,} now ({photos.read_report.classes}); read the photos as before, or choose "
            "another folder",
            setting="out",
        )


def _fresh_state(recipe: Recipe, bits: int, backbone: Backbone, selected: TrainingSet) -> CheckpointRecord:
    return CheckpointRecord(
        format=FORMAT,
        lineage=uuid.uuid4().hex,
        bits=bits,
        recipe=by_content(recipe),
        rounds_done=0,
        mean=backbone.mean,
        std=backbone.std,
        weights_licence=backbone.licence,
        classes=named_classes(selected.photos),
        train_ids=selected.photos.ids,
        train_labels=selected.photos.labels,
        n_catalog=selected.n_catalog,
        history=(),
        versions=versions(),
    )


@contextmanager
def _folders(*folders: Path) -> Iterator[None]:
    """Create folders before any work, so that an unwritable place is reported at once; remove those left empty."""
    made = []
    try:
        for folder in folders:
            if not folder.exists():
                made.append(folder)
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot create the folder {folder}: {error.strerror}. Choose another one") from None
    try:
        yield
    finally:
        for folder in reversed(made):
            with suppress(OSError):  # not empty
                folder.rmdir()
