"""What a page needs of a model, be it a checkpoint or a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.codes import Codes, Logits
from milvus_fghash.core.images import Preprocessing

Pixels = NDArray[np.uint8]
"""(n, size, size, 3) RGB, or one photo (size, size, 3), as `images.prepare` makes it."""
Heat = NDArray[np.floating[Any]]
"""(h, w) in [0, 1], of any resolution."""

BATCH = 8
"""Photos computed at once."""


class ModelOutputs(NamedTuple):
    """What a model says of n photos.

    Attributes:
        codes: (n, n_bytes).
        logits: (n, n_bits), the numbers they are the signs of.
        bit_scores: (n, n_bits), how strongly each bit is on: the logits, or what `Model.bit_scores_name` names.
    """

    codes: Codes
    logits: Logits
    bit_scores: Logits


@dataclass(frozen=True)
class View:
    """One picture over a photo.

    Attributes:
        kind: a key of the model's `readings`.
        caption: what is to be said of this one.
        picture: (size, size, 3).
    """

    kind: str
    caption: str
    picture: Pixels


@dataclass(frozen=True)
class Views:
    """What is shown over one photo.

    Attributes:
        shown: in the order of the model's `readings`.
        left_out: a sentence on maps that are not among them and the options that show them, or "".
    """

    shown: list[View]
    left_out: str = ""


class Model(ABC):
    """Codes of photos, and whatever this kind of model can show of where they come from."""

    path: Path
    kind: str
    """Either "bundle" or "checkpoint"."""
    method: str
    bits: int
    lineage: str
    preprocessing: Preprocessing
    mean: Sequence[float]
    """Per channel, of RGB pixels in [0, 1]; what is hidden or erased has this colour."""
    bit_scores_name: str = "logits"
    """By what photos are ordered and bits explained, in a word for people."""
    readings: Mapping[str, str]
    """Kind of view -> how to read it, in the order of the views."""
    absent: Sequence[str]
    """What this kind of model cannot show, and why; each goes on a sentence that begins "Not shown of NAME: "."""

    @property
    def name(self) -> str:
        """Such as "fcaenet (48 bits)"."""
        return f"{self.method} ({self.bits} bits)"

    @property
    def folder(self) -> Path:
        """Where it lies: ``path``, or a checkpoint below it."""
        return self.path

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """As a pixel."""
        red, green, blue = (round(255 * min(max(value, 0), 1)) for value in self.mean)
        return red, green, blue

    @abstractmethod
    def run(self, pixels: Pixels) -> ModelOutputs:
        """Of photos, (n, size, size, 3)."""

    @abstractmethod
    def views(self, photo: Pixels, most_maps: int) -> Views:
        """Pictures of one photo, (size, size, 3).

        Args:
            most_maps: attention maps shown at most.
        """

    def bit_heat(self, pixels: Pixels, bit: int) -> list[Heat] | None:
        """For each photo, what holds this bit on its side; None if this kind of model cannot say."""
        return None


def told_apart(models: Sequence[Model]) -> list[str]:
    """What models are called beside each other: those of one name by the shortest ends of their paths that differ.

    The paths must differ.
    """
    names = [model.name for model in models]
    if len(set(names)) == len(names):
        return names
    paths = [model.path.resolve().parts for model in models]
    depths = range(1, max(map(len, paths)) + 1)
    depth = next(depth for depth in depths if len({parts[-depth:] for parts in paths}) == len(paths))
    return [f"{name}, {Path(*parts[-depth:])}" for name, parts in zip(names, paths, strict=True)]
