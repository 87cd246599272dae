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

    @property
    def shown_value(self) -> str:
        """With its sign; a minus, unlike a hyphen, stays with its number."""
        return f"{self.value:+.2f}".replace("-", "\N{MINUS SIGN}")


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
    firsts, which = sources.distinct
    values = np.bincount(which, sources.pushes[bit], len(firsts))
    of_clusters = sources.clusters[firsts]

    def strongest(cluster: bool, sign: int) -> tuple[Push, ...]:
        wanted = np.flatnonzero((of_clusters == cluster) & (sign * values > 0))
        ordered = wanted[np.argsort(-sign * values[wanted], kind="stable")][:SHOWN]  # equal ones by name
        return tuple(Push(sources.names[firsts[at]], float(values[at]), int(most_active[firsts[at]])) for at in ordered)

    return BitPushes(strongest(False, 1), strongest(False, -1), strongest(True, 1), strongest(True, -1))
