"""The recipe, as frozen models: method, backbone, head, schedule. `recipes.loader` reads the files.

A shipped recipe holds no path: photos and weights are given to each training. ``[by_bits.48.training]`` holds what
differs at one code length. Unknown keys are rejected with the nearest known one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from milvus_fghash.core.file_models import Frozen, read_model
from milvus_fghash.core.images import Preprocessing

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


FORMER_KEYS: Final = {
    "trunk": "backbone",
    "data.dataset": "data.layout",
    "training.trunk_factor": "training.backbone_factor",
}
"""Keys of recipes and checkpoints from before 0.1.0 -> as they are now."""


Finite = Annotated[float, Field(allow_inf_nan=False)]
Triple = tuple[Finite, Finite, Finite]


def _above_zero(std: Triple) -> Triple:
    if min(std) <= 0:
        raise ValueError(f"std must be three numbers above 0, got {list(std)}")
    return std


class MethodChoice(Frozen):
    """The method and its options, which are checked against the method's `Config` when it is loaded."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class DataChoice(Frozen):
    """How the photos are read; the photos themselves are given to each training."""

    layout: str = "auto"
    """Name of a layout; `auto` detects it from the folder."""
    train_split: str = "train"
    validation: Fraction = 0.0
    """Fraction of the training set, drawn class by class, that is held out to measure mAP after each round."""
    max_photos: Annotated[int, Field(ge=0)] | None = None
    """Photos that are trained on at most; of more, a random sample, see `training_set.sample_photos`. 0: all. None: all
    where the backbone is trained; `training_set.MAX_PHOTOS` where it is frozen, since features are in memory."""


class BackboneChoice(Frozen):
    """The network below the hash head."""

    name: str = "resnet50"
    weights: str = "imagenet"
    """`imagenet` or `imagenet-v2` (official torchvision weights), `pretrained` (timm's), `none`, or a file."""
    mean: Triple | None = None
    """Subtracted from each channel of RGB pixels in [0, 1]; default: what the weights were trained with."""
    std: Annotated[Triple, AfterValidator(_above_zero)] | None = None
    """By which the difference is divided, for each channel."""
    frozen: bool = False
    """Compute the backbone's features of a few views once, and train only the head."""
    views: Annotated[int, Field(ge=0)] = 4
    """Augmented views cached per training photo, besides the centre crop, when frozen."""

    @model_validator(mode="after")
    def _mean_and_std_come_together(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std describe one normalisation; set both or neither")
        return self


class HeadChoice(Frozen):
    """Maps features to logits. `linear` is the form in the papers."""

    kind: Literal["linear", "mlp"] = "linear"
    hidden: Annotated[int, Field(gt=0)] = 1024
    dropout: Fraction = 0.5
    standardise: bool = False
    """Standardise each feature by the training set's mean and deviation first; useful with a frozen backbone."""


class Augmentation(Frozen):
    """A random crop of the given area and aspect ratio, resized to the input size, then a random flip."""

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: Fraction = 0.5

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> Self:
        for name, (low, high), most in (("scale", self.scale, 1.0), ("ratio", self.ratio, math.inf)):
            if not (0 < low <= high <= most and math.isfinite(high)):
                limit = " and at most 1" if most == 1 else ""
                raise ValueError(f"{name} must be two numbers above 0{limit}, the smaller first, got [{low}, {high}]")
        return self


class TrainingPlan(Frozen):
    """The training loop: in each round draw photos, train some epochs on them, then solve the codes."""

    rounds: Annotated[int, Field(gt=0)] = 40
    epochs_per_round: Annotated[int, Field(gt=0)] = 20
    samples_per_round: Annotated[int, Field(ge=0)] = 2000
    """Photos drawn for a round, without replacement; 0: all."""
    batch_size: Annotated[int, Field(gt=1)] = 64
    gradient_steps: Annotated[int, Field(gt=0)] = 1
    """Batches whose gradients are averaged for one optimiser step."""
    least_steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps that the training takes at least: where the photos are so few that it would take fewer, a round
    has more epochs than ``epochs_per_round``."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Literal["steps", "cosine"] = "steps"
    """How the learning rate decreases: at ``drop_at``, or from epoch to epoch along a cosine towards 0."""
    drop_at: tuple[int, ...] = (20, 30)
    """Rounds after which the learning rate is divided by 10; not used by `cosine`."""
    backbone_factor: Annotated[float, Field(gt=0)] = 1.0
    """The backbone's learning rate as a multiple of that of the rest."""
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    seed: Seed = 0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    deterministic: bool = True
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that decode photos; 0 decodes in the training process."""

    @model_validator(mode="after")
    def _nesterov_is_a_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum; with training.momentum=0 set training.nesterov=false")
        return self


class Recipe(Frozen):
    """How a network is trained: everything but the photos, the code length and local weights.

    Attributes:
        description: one line for people.
        method: name of the method and its options.
        data: layout, training split and validation fraction of the photos.
        backbone: network below the hash head, its weights, and whether it is frozen.
        head: kind and size of the hash head.
        preprocessing: from a photo to the input of the network; what is not set is that of a timm or ONNX backbone.
        augmentation: random crops and flips in training.
        training: rounds, batch size, learning rate, seed, precision and so on.
        by_bits: code length -> the tables of this recipe that differ at it.

    Examples:
        >>> import milvus_fghash as fg
        >>> recipe = fg.load_recipe("frozen-posterior-itq")
        >>> recipe.backbone.name, recipe.training.rounds
        ('mobilenet_v2', 1)
    """

    description: str = ""
    method: MethodChoice
    data: DataChoice = DataChoice()
    backbone: BackboneChoice = BackboneChoice()
    head: HeadChoice = HeadChoice()
    preprocessing: Preprocessing = Preprocessing()
    augmentation: Augmentation = Augmentation()
    training: TrainingPlan = TrainingPlan()
    by_bits: dict[int, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _former_keys_are_read(cls, values: Any) -> Any:
        return with_current_keys(values)

    @model_validator(mode="after")
    def _each_length_must_read(self) -> Self:
        for bits in self.by_bits:
            self.at(bits)
        return self

    def at(self, bits: int) -> Recipe:
        """The recipe for one code length.

        Args:
            bits: code length.

        Returns:
            This recipe with its ``by_bits`` table for ``bits`` merged in.

        Raises:
            ConfigError: when the merged tables do not make a valid recipe.
        """
        values = self.model_dump(exclude={"by_bits"}, exclude_unset=True)  # what is not set, the backbone may decide
        return read_model(Recipe, merge(values, self.by_bits.get(bits, {})), f"by_bits.{bits}")


def with_current_keys(values: Any) -> Any:
    """A recipe's tables with each of `FORMER_KEYS` under its present name, in its ``by_bits`` tables too.

    Raises:
        ValueError: when a table has a key under both names.
    """
    if not isinstance(values, Mapping):
        return values
    renamed = dict(values)
    for former, current in FORMER_KEYS.items():
        *table, old = former.split(".")
        new = current.split(".")[-1]
        home = renamed
        if table:
            if not isinstance(renamed.get(table[0]), Mapping):
                continue
            home = renamed[table[0]] = dict(renamed[table[0]])
        if old in home:
            if new in home:
                raise ValueError(f"{former} is the former name of {current}; give {current} alone")
            home[new] = home.pop(old)
    if isinstance(lengths := renamed.get("by_bits"), Mapping):
        renamed["by_bits"] = {bits: with_current_keys(table) for bits, table in lengths.items()}
    return renamed


def merge(base: Mapping[Any, Any], change: Mapping[Any, Any]) -> dict[Any, Any]:
    """``base`` with the values of ``change``, table by table."""
    merged = dict(base)
    for key, value in change.items():
        both_tables = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both_tables else value
    return merged


def differences(old: Any, new: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, old, new) of each value that differs between two documents."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{place}.{key}" if place else str(key)
            yield from differences(old.get(key, "(nothing)"), new.get(key, "(nothing)"), inner)
    elif old != new:
        yield place, old, new
