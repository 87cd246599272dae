"""A training on disk: `checkpoints/round-0007/` with model.safetensors, optimizer.safetensors, checkpoint.json, and
training-photos.bin as in a bundle.

A checkpoint is self-contained: recipe, code length, classes, ids of the training photos, history. It is written
atomically, and the previous one is removed only afterwards.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from milvus_fghash.bundle.bundle import TRAINING_PHOTOS, is_bundle
from milvus_fghash.bundle.training_photos import TrainingPhotos, TrainingPhotosInfo
from milvus_fghash.core.atomic_io import atomic_path
from milvus_fghash.core.bounded_file import MAX_LIST_BYTES, check_regular, read_bounded
from milvus_fghash.core.file_models import Frozen, read_model
from milvus_fghash.core.lfs_pointer import reject_pointer
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.errors import BundleError, ConfigError, TrainingError
from milvus_fghash.methods import load
from milvus_fghash.methods.base import Backbone, HashMethod, Sizes
from milvus_fghash.recipes.schema import HeadChoice, MethodChoice, Recipe
from milvus_fghash.training.backbones import ONNX, build_backbone
from milvus_fghash.training.onnx_backbone import restored_onnx

FORMAT = 1

FORMER_NAMES: Final = {"backbone.": "trunk.", "head.code_utility": "head.worth"}
"""What some tensors' names begin with -> what they began with before 0.1.0."""


class RoundRecord(Frozen):
    """Result of one round."""

    round: int
    learning_rate: float
    terms: dict[str, float]
    """Mean of each term of the loss over the round."""
    seconds: float
    images_per_second: float
    validation_map: float | None = None
    validation_gallery: str | None = None
    """`learned` or `encoded`."""


class CheckpointRecord(Frozen):
    """checkpoint.json."""

    format: int
    lineage: str
    """Random id of this training; codes of different trainings are not comparable."""
    bits: int
    recipe: Recipe
    rounds_done: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights_licence: str
    classes: tuple[str, ...]
    train_ids: tuple[str, ...]
    train_labels: tuple[str, ...]
    """"" for photos that were trained on without a class."""
    n_catalog: int = 0
    """Training photos that are of the user's own catalog, the last ones."""
    history: tuple[RoundRecord, ...]
    training_photos: TrainingPhotosInfo | None = None
    """What training-photos.bin holds; None in checkpoints made before it was written."""
    scaler: dict[str, float] | None = None
    """State of the float16 loss scale."""
    versions: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory; ``method`` is in evaluation mode on the CPU."""

    path: Path
    state: CheckpointRecord
    method: HashMethod

    def training_photos(self) -> TrainingPhotos | None:
        """Which photos were trained on; None in checkpoints made before this was recorded.

        Raises:
            TrainingError: when the file is missing or was changed.
        """
        return read_training_photos(self.path, self.state)

    @property
    def record(self) -> dict[str, Any]:
        """The training as plain values, for a bundle."""
        state = self.state
        last = state.history[-1] if state.history else None
        own = state.train_labels[len(state.train_labels) - state.n_catalog :]
        return {
            "recipe": state.recipe.model_dump(mode="json", exclude={"by_bits"}),
            "rounds": state.rounds_done,
            "photos": len(state.train_ids),
            "photos_without_class": state.train_labels.count(""),
            "catalog": {"photos": len(own), "photos_without_class": own.count("")},
            "weights": state.recipe.backbone.weights,
            "versions": state.versions,
            "last_round": last.model_dump(mode="json") if last else None,
        }


def build_method(choice: MethodChoice, head: HeadChoice, backbone: Backbone, sizes: Sizes) -> HashMethod:
    """A recipe's method on a backbone.

    Raises:
        ConfigError: when the method does not exist, an option is wrong, or they do not fit.
        DataError: when the method cannot have as many classes at this code length.
    """
    module = load(choice.name)
    config = read_model(module.Config, choice.options, f"method.options of {choice.name}")
    method: HashMethod = module.Method(backbone, head, sizes, config)
    return method


def save_checkpoint(
    folder: Path,
    state: CheckpointRecord,
    method: nn.Module,
    momenta: dict[str, Tensor],
    training_photos: TrainingPhotos | None = None,
) -> Path:
    """Write the checkpoint of a round below ``folder``; remove older and incomplete ones."""
    state = state.model_copy(update={"training_photos": training_photos.info if training_photos else None})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"round-{state.rounds_done:04d}"
    with atomic_path(path) as temporary:
        temporary.mkdir()
        save_file(_plain(method.state_dict()), temporary / "model.safetensors")
        save_file(_plain(momenta), temporary / "optimizer.safetensors")
        if training_photos:
            (temporary / TRAINING_PHOTOS).write_bytes(training_photos.pack())
        (temporary / "checkpoint.json").write_text(state.model_dump_json(indent=1), encoding="utf-8")
    for older in (*_rounds(folder), *folder.glob(".round-*")):
        if older != path:
            shutil.rmtree(older)
    return path


def find_checkpoint(path: Path) -> Path | None:
    """The newest checkpoint of a training's folder, or the folder itself if it is one; None if there is none."""
    if (path / "checkpoint.json").is_file():
        return path
    rounds = _rounds(path / "checkpoints")
    return rounds[-1] if rounds else None


def read_state(path: Path) -> CheckpointRecord:
    """checkpoint.json of a checkpoint.

    Raises:
        TrainingError: when it is not a checkpoint of this format.
    """
    reject_pointer(path / "checkpoint.json", TrainingError)
    try:
        values = parse_json(read_bounded(path / "checkpoint.json", MAX_LIST_BYTES))
        if values.get("format", 0) > FORMAT:
            raise TrainingError(f"{path} was written by a newer milvus-fghash; upgrade to read it")
        return CheckpointRecord.model_validate(values)
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"{path} holds no readable checkpoint.json: {reason}") from None


def read_training_photos(path: Path, state: CheckpointRecord) -> TrainingPhotos | None:
    """training-photos.bin of a checkpoint; None where it has none.

    Raises:
        TrainingError: when the file is missing or was changed.
    """
    if state.training_photos is None:
        return None
    try:
        photos = TrainingPhotos.unpack(
            read_bounded(path / TRAINING_PHOTOS, MAX_LIST_BYTES), info := state.training_photos
        )
        if photos.info != info:
            raise BundleError("it was changed")
    except (OSError, BundleError) as error:
        raise TrainingError(f"{path / TRAINING_PHOTOS} cannot be used: {error}") from None
    return photos


def load_checkpoint(path: Path) -> Checkpoint:
    """The newest checkpoint of a training's folder (or a checkpoint's own folder), ready to encode.

    Raises:
        TrainingError: when there is none, or its files do not belong together.
    """
    found = find_checkpoint(path)
    if found is None:
        found_instead = "it is already a bundle; " if is_bundle(path) else ""
        raise TrainingError(f"no checkpoint in {path}; {found_instead}expected a folder that train wrote")
    state = read_state(found)
    try:
        backbone = restored_backbone(state, found)
        sizes = Sizes.of(state.bits, state.train_labels, state.classes)
        method = build_method(state.recipe.method, state.recipe.head, backbone, sizes)
        restore(method, found)
    except ConfigError as error:
        raise TrainingError(f"{found} does not fit this version: {error}") from error
    return Checkpoint(found, state, method.eval())


def restored_backbone(state: CheckpointRecord, path: Path) -> Backbone:
    """The backbone of a checkpoint; its weights, but those of an ONNX file, come with the method's (`restore`)."""
    name = state.recipe.backbone.name
    backbone = restored_onnx(path) if name == ONNX else build_backbone(name, "none")
    backbone.mean, backbone.std, backbone.licence = state.mean, state.std, state.weights_licence
    return backbone


def restore(method: nn.Module, path: Path) -> dict[str, Tensor]:
    """Load a checkpoint's weights into ``method``; returns the optimiser's momenta by parameter name."""
    for file in ("model.safetensors", "optimizer.safetensors"):
        reject_pointer(path / file, TrainingError)
    try:
        method.load_state_dict(_tensors(path / "model.safetensors"))
        return _tensors(path / "optimizer.safetensors")
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"the weights in {path} cannot be used: {reason}") from None


def _tensors(file: Path) -> dict[str, Tensor]:
    check_regular(file)  # reading a pipe would block forever
    tensors: dict[str, Tensor] = load_file(file)
    return {_renamed(name, {former: now for now, former in FORMER_NAMES.items()}): tensors[name] for name in tensors}


def former_name(name: str) -> str:
    """A tensor's name as it was before 0.1.0: fingerprints keep it, so that one network keeps one fingerprint."""
    return _renamed(name, FORMER_NAMES)


def _renamed(name: str, beginnings: Mapping[str, str]) -> str:
    for beginning, other in beginnings.items():
        if name.startswith(beginning):
            return other + name.removeprefix(beginning)
    return name


def _rounds(folder: Path) -> list[Path]:
    return sorted(folder.glob("round-[0-9]*")) if folder.is_dir() else []


def _plain(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def versions() -> dict[str, str]:
    """Versions of this project, torch and torchvision."""
    import torchvision

    from milvus_fghash._version import __version__

    return {"milvus-fghash": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
