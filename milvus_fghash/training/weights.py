"""Weights of a backbone: torchvision's, or a local safetensors or state-dict file."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from milvus_fghash.core.bounded_file import check_regular, open_regular
from milvus_fghash.core.lfs_pointer import reject_pointer
from milvus_fghash.embedding_models.preprocessor import triple
from milvus_fghash.errors import ConfigError
from milvus_fghash.recipes.schema import Recipe

OFFICIAL = {"imagenet": "IMAGENET1K_V1", "imagenet-v2": "IMAGENET1K_V2"}
PRETRAINED = ("imagenet", "pretrained")
"""Names of the weights that timm publishes for a network; not all of them were trained on ImageNet."""
NAMED = {*OFFICIAL, *PRETRAINED, "none"}
"""Weights that are not a file."""
OFFICIAL_LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet, whose photos are for non-commercial research"


@dataclass(frozen=True)
class Normalisation:
    """Mean and deviation per channel of RGB pixels in [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Weights:
    """Tensors by name, their source, the normalisation of the network's input, and their licence, where they say it."""

    tensors: dict[str, Tensor]
    source: str
    normalisation: Normalisation | None = None
    licence: str | None = None


def load_weights(backbone: str, weights: str) -> Weights:
    """Load `imagenet`, `imagenet-v2` (torchvision's, of a backbone), or the file at a path.

    Raises:
        ConfigError: when the weights cannot be downloaded or read.
    """
    return _official(backbone, weights) if weights in NAMED else load_file(Path(weights))


def load_file(path: Path) -> Weights:
    """Load a safetensors file or a state dict.

    Normalisation and licence are read from the metadata of a safetensors file (`mean`, `std` as "r,g,b"; `licence` or
    `source`).

    Raises:
        ConfigError: when it cannot be read.
    """
    if not path.is_file():
        raise ConfigError(
            f"no weights file {str(path)!r}; weights are 'imagenet', 'imagenet-v2', 'pretrained', 'none', or the path "
            "of a file"
        )
    reject_pointer(path, ConfigError)
    return _safetensors(path) if path.suffix == ".safetensors" else _state_dict(path)


def normalisation_in(metadata: Mapping[str, str], path: Path) -> Normalisation | None:
    """`mean` and `std`, each "r,g,b", in the metadata of a file of weights; None where one is missing.

    Raises:
        ConfigError: when they are not three finite numbers each, those of `std` above 0.
    """
    if not {"mean", "std"} <= metadata.keys():
        return None
    try:
        mean, std = (triple(metadata[key].split(",")) for key in ("mean", "std"))
        if min(std) <= 0:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{path}: mean and std in its metadata must be three numbers 'r,g,b', std above 0; got "
            f"{metadata['mean']!r} and {metadata['std']!r}. Correct the metadata"
        ) from None
    return Normalisation(mean, std)


def fill(network: nn.Module, weights: Weights, name: str, ignored: tuple[str, ...] = ()) -> None:
    """Load the weights of a network; those whose names begin as ``ignored`` may be missing or have another shape.

    Raises:
        ConfigError: when others are missing or have another shape.
    """
    expected = network.state_dict()
    wanted = {key for key in expected if not key.startswith(ignored) and not key.endswith("num_batches_tracked")}
    missing = sorted(wanted - set(weights.tensors))
    wrong = sorted(key for key in wanted & set(weights.tensors) if weights.tensors[key].shape != expected[key].shape)
    if missing or wrong:
        example = (missing or wrong)[0]
        raise ConfigError(
            f"{weights.source} does not hold weights of {name}: {len(missing)} of {len(wanted)} tensors are missing "
            f"and {len(wrong)} have another shape (first: {example}). Check the backbone's name, or give another file"
        )
    network.load_state_dict({key: weights.tensors[key] for key in wanted}, strict=False)


def by_content(recipe: Recipe) -> Recipe:
    """A recipe as checkpoints, bundles and records store it: a weights file by its digest instead of its path.

    Raises:
        ConfigError: when the file cannot be read.
    """
    if recipe.backbone.weights in NAMED:
        return recipe
    try:
        file = weights_file(Path(recipe.backbone.weights))
        check_regular(file)
        written = os.stat(file)
        digest = _digest(str(file), written.st_size, written.st_mtime_ns)
    except OSError as error:
        raise ConfigError(f"cannot read the weights {recipe.backbone.weights}: {error.strerror}") from None
    backbone = recipe.backbone.model_copy(update={"weights": f"file {digest}"})
    return recipe.model_copy(update={"backbone": backbone})


def weights_file(path: Path) -> Path:
    """The file of weights at a path: itself, or `model.safetensors` in a folder as Hugging Face's hub has it."""
    return path / "model.safetensors" if path.is_dir() else path


def decisive(recipe: Recipe) -> Recipe:
    """A recipe without what changes no result: its description, and the number of decoding processes."""
    training = recipe.training.model_copy(update={"workers": 0})
    return recipe.model_copy(update={"description": "", "training": training})


@cache
def _digest(weights: str, size: int, mtime_ns: int) -> str:
    """Size and time are part of the cache's key, so that a changed file is read again."""
    with open_regular(Path(weights)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _official(backbone: str, weights: str) -> Weights:
    from torchvision.models import get_model_weights

    try:
        entry = get_model_weights(backbone)[OFFICIAL[weights]]
    except (KeyError, ValueError):  # of the weights, and of the backbone
        raise ConfigError(f"torchvision has no {weights!r} weights for {backbone}; use 'none' or a file") from None
    try:
        tensors = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, HTTPException, OSError, RuntimeError) as error:
        raise ConfigError(
            f"cannot download the official weights of {backbone} ({error}). On a machine with internet fetch "
            f"{entry.url} and give that file as the weights, or 'none' to train the backbone from scratch",
            setting="weights",
        ) from error
    return Weights(tensors, f"torchvision {entry}", IMAGENET, OFFICIAL_LICENCE)


def _safetensors(path: Path) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path} is not a readable safetensors file: {error}") from None
    licence = metadata.get("licence") or metadata.get("license") or metadata.get("source")
    return Weights(tensors, str(path), normalisation_in(metadata, path), licence)


def _state_dict(path: Path) -> Weights:
    try:
        with warnings.catch_warnings(action="ignore"):  # about odd pickles, which the error below explains better
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{path} is not a state dict of plain tensors ({reason}). Files with pickled code are never "
            "loaded; save only the state_dict, or use safetensors"
        ) from None
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ConfigError(f"{path} does not hold a state dict (names and tensors)")
    tensors = {str(key).removeprefix("module."): value for key, value in loaded.items()}
    return Weights(tensors, str(path))
