"""What a page needs of a model, whether a checkpoint or a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
    """The outputs of a model for n photos.

    Attributes:
        codes: (n, n_bytes).
        logits: (n, n_bits); their signs are the code.
        bit_scores: (n, n_bits), how strongly each bit is on: the logits, or what `Model.bit_scores_name` names.
        activities: (n, n_sources), how active each of the `Model.sources` is; None if the model has none.
    """

    codes: Codes
    logits: Logits
    bit_scores: Logits
    activities: Logits | None = None


@dataclass(frozen=True)
class View:
    """One picture computed from a photo.

    Attributes:
        kind: a key of the model's `descriptions`.
        caption: describes this picture.
        picture: (size, size, 3).
    """

    kind: str
    caption: str
    picture: Pixels


@dataclass(frozen=True)
class Views:
    """The pictures computed from one photo.

    Attributes:
        shown: in the order of the model's `descriptions`.
        left_out: a sentence on attention maps that are not among them, or "".
    """

    shown: list[View]
    left_out: str = ""


@dataclass(frozen=True)
class Sources:
    """The classes and clusters that move the bits of a model.

    Attributes:
        names: of each source. Equal names are one class in several classifiers, which move a bit together.
        clusters: (n_sources,) whether each is a cluster, not a class.
        pushes: (n_bits, n_sources), see `methods.base.BitSources`.
    """

    names: Sequence[str]
    clusters: NDArray[np.bool_]
    pushes: NDArray[np.floating[Any]]

    @cached_property
    def distinct(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first source of each class and cluster, by name; for each source, the number of its class or cluster."""
        keys = [f"{cluster:d}{name}" for cluster, name in zip(self.clusters, self.names, strict=True)]
        _, firsts, which = np.unique(np.array(keys, object), return_index=True, return_inverse=True)
        return firsts, which.reshape(-1)


class Model(ABC):
    """Codes of photos, and the views that this kind of model can compute."""

    path: Path
    kind: str
    """Either "bundle" or "checkpoint"."""
    method: str
    bits: int
    lineage: str
    preprocessing: Preprocessing
    mean: Sequence[float]
    """Per channel, of RGB pixels in [0, 1]; covered or erased places have this colour."""
    bit_scores_name: str = "logits"
    """What the bit scores are, in a word for people."""
    sources: Sources | None = None
    """What moves the bits, for models that tell."""
    descriptions: Mapping[str, str]
    """Kind of view -> how to read it, in the order of the views."""
    unavailable: Sequence[str]
    """What this kind of model cannot show, each with the reason in parentheses."""

    @property
    def name(self) -> str:
        """Such as "fcaenet (48 bits)"."""
        return f"{self.method} ({self.bits} bits)"

    @property
    def folder(self) -> Path:
        """The folder of the weights: ``path``, or a checkpoint below it."""
        return self.path

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """The mean as a pixel."""
        red, green, blue = (round(255 * min(max(value, 0), 1)) for value in self.mean)
        return red, green, blue

    @abstractmethod
    def run(self, pixels: Pixels) -> ModelOutputs:
        """Encode photos, (n, size, size, 3)."""

    @abstractmethod
    def views(self, photo: Pixels, max_maps: int) -> Views:
        """Pictures of one photo, (size, size, 3), with at most ``max_maps`` attention maps."""

    def bit_heat(self, pixels: Pixels, bit: int) -> list[Heat] | None:
        """For each photo, where the model finds the bit's side; None if this kind of model cannot tell."""
        return None


def distinct_names(models: Sequence[Model]) -> list[str]:
    """Names of models on one page: equal ones get the shortest ends of their paths that differ.

    The paths must differ.
    """
    names = [model.name for model in models]
    if len(set(names)) == len(names):
        return names
    paths = [model.path.resolve().parts for model in models]
    depths = range(1, max(map(len, paths)) + 1)
    depth = next(depth for depth in depths if len({parts[-depth:] for parts in paths}) == len(paths))
    return [f"{name}, {Path(*parts[-depth:])}" for name, parts in zip(names, paths, strict=True)]


def percent(share: float) -> str:
    """A share of 0 to 1; only exact values are called 0% or 100%.

    >>> percent(0.466), percent(0.999), percent(0.001), percent(1.0)
    ('47%', '99%', '1%', '100%')
    """
    return f"{round(100 * share) if share in (0, 1) else min(max(round(100 * share), 1), 99)}%"
