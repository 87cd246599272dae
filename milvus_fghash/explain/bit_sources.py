"""The classes and clusters that move one bit the most, for models whose bits are computed from their probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.explain.model import Sources

SHOWN: Final = 4
"""Classes, and clusters, of each side of a bit."""


@dataclass(frozen=True)
class Push:
    """A class or a cluster that moves a bit.

    Attributes:
        name: of the class or the cluster.
        value: how much higher the bit score of a photo that is certainly of it is than that of the average photo;
            of a class, the sum over all classifiers.
        example: gallery row of the photo for which it is most active.
    """

    name: str
    value: float
    example: int


@dataclass(frozen=True)
class BitPushes:
    """What moves one bit on or off, the strongest first; at most `SHOWN` each."""

    classes_on: tuple[Push, ...]
    classes_off: tuple[Push, ...]
    clusters_on: tuple[Push, ...]
    clusters_off: tuple[Push, ...]


def bit_pushes(bit: int, sources: Sources, most_active: NDArray[np.int64]) -> BitPushes:
    """The sources that move a bit.

    Args:
        most_active: see `retrieval.EncodedPhotos`.
    """
    return BitPushes(
        *(_strongest(sources, bit, of_clusters, sign, most_active) for of_clusters in (False, True) for sign in (1, -1))
    )


def _strongest(
    sources: Sources, bit: int, of_clusters: bool, sign: int, most_active: NDArray[np.int64]
) -> tuple[Push, ...]:
    pushes: dict[str, float] = {}
    examples: dict[str, int] = {}
    for at in np.flatnonzero(sources.clusters == of_clusters).tolist():
        name = sources.names[at]
        pushes[name] = pushes.get(name, 0.0) + float(sources.pushes[bit, at])
        examples.setdefault(name, int(most_active[at]))
    strongest = sorted((-sign * value, name) for name, value in pushes.items() if sign * value > 0)[:SHOWN]
    return tuple(Push(name, pushes[name], examples[name]) for _, name in strongest)
