"""The interval in which a later figure of the same kind lies: a new sample of photos, another split, another seed.

The variance of a figure over samples of photos is estimated by the delete-a-group jackknife (Shao and Tu, "The
Jackknife and Bootstrap", 1995): each of `GROUPS` groups of photos is left out in turn, as query and as gallery photo. A
bootstrap would draw photos twice, and a query would find its own copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

GROUPS: Final = 20
STUDENT: Final = 1.729
"""95 % quantile of Student's t with `GROUPS` - 1 degrees of freedom: both ends of a 90 % interval."""
TRAINING_DEVIATION: Final = 0.006
"""Least deviation of a figure between trainings with other photos and seeds, each of which chooses the weight of the
features anew. One training shows none, and two or three would often show less."""


def jackknife_variance(figure: Callable[[NDArray[np.bool_]], float], groups: NDArray[np.integer[Any]]) -> float:
    """Variance of a figure over samples of as many photos.

    Args:
        figure: the figure of the photos that are kept, a mask (n,).
        groups: (n,) number of each photo's group, 0 to `GROUPS` - 1.
    """
    without = np.array([figure(groups != group) for group in range(GROUPS)])
    return float((GROUPS - 1) / GROUPS * np.square(without - without.mean()).sum())


def spread_groups(labels: Sequence[str], seed: int) -> NDArray[np.int64]:
    """(n,) group of each photo; each class is spread evenly over the groups."""
    names = np.array(labels, str)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    groups = np.zeros(len(names), np.int64)
    groups[shuffled[np.argsort(names[shuffled], kind="stable")]] = np.arange(len(names)) % GROUPS
    return groups


def later_interval(
    figures: Sequence[float], variances: Sequence[float], *, separate: bool
) -> tuple[float, float, float]:
    """The mean of repeated figures, and the 90 % interval of a later one.

    Args:
        figures: of repeated trainings.
        variances: jackknife variance of each.
        separate: whether each was measured on photos of its own; if not, all on the same ones.

    Returns:
        (mean, low, high), the ends clipped to 0 .. 1. The width has two causes: the later figure differs from its
        expectation, and so does the mean.
    """
    n, of_photos, mean = len(figures), float(np.mean(variances)), float(np.mean(figures))
    between = float(np.var(figures, ddof=1)) if n > 1 else 0.0
    of_training = max(between - of_photos if separate else between, TRAINING_DEVIATION**2)
    later = of_photos + of_training
    own = (of_photos / n if separate else of_photos) + of_training / n
    half = STUDENT * math.sqrt(later + own)
    return mean, max(mean - half, 0.0), min(mean + half, 1.0)
