"""The interval of a later figure: worked by hand, and how often it holds the later figure."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from milvus_fghash.advice.interval import (
    GROUPS,
    STUDENT,
    TRAINING_DEVIATION,
    jackknife_variance,
    later_interval,
    spread_groups,
)


def test_the_jackknife_of_a_mean_is_its_variance() -> None:
    """With one value a group, it is the sample variance divided by n."""
    values = np.random.default_rng(0).normal(size=GROUPS)
    found = jackknife_variance(lambda kept: float(values[kept].mean()), np.arange(GROUPS))
    assert found == pytest.approx(values.var(ddof=1) / GROUPS)


def test_groups_spread_every_class() -> None:
    labels = ["a"] * 40 + ["b"] * 60
    groups = spread_groups(labels, 0)
    for name, count in (("a", 2), ("b", 3)):
        of_class = np.bincount(groups[np.array(labels) == name], minlength=GROUPS)
        assert of_class.tolist() == [count] * GROUPS


def test_the_interval_by_hand() -> None:
    """Photos of their own: the variance between trainings contains that of photos, here all of it."""
    mean, low, high = later_interval([0.5, 0.5], [0.0002, 0.0002], separate=True)
    half = STUDENT * ((0.0002 + TRAINING_DEVIATION**2) * 1.5) ** 0.5
    assert (mean, low, high) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    same = later_interval([0.5, 0.5], [0.0002, 0.0002], separate=False)
    assert same[2] - same[1] > high - low
    assert later_interval([0.999], [0.01], separate=True)[2] == 1


def mean_of(values: NDArray[np.float64], kept: NDArray[np.bool_]) -> float:
    return float(values[kept].mean())


@pytest.mark.parametrize("separate", [True, False])
def test_nine_in_ten_later_figures_lie_inside(separate: bool) -> None:
    """Figures are means over photos, shifted by each training; between 87 and 97 in 100 lie inside."""
    random, inside, trials, n_photos = np.random.default_rng(1), 0, 400, 500

    def training() -> float:
        return float(random.normal(0, TRAINING_DEVIATION))

    for _ in range(trials):
        photos = random.uniform(0.2, 0.8, n_photos)
        groups = np.arange(n_photos) % GROUPS
        figures, variances = [], []
        for _ in range(3):
            if separate:
                photos = random.uniform(0.2, 0.8, n_photos)
            figures.append(float(photos.mean()) + training())
            variances.append(jackknife_variance(partial(mean_of, photos), groups))
        _, low, high = later_interval(figures, variances, separate=separate)
        inside += low <= random.uniform(0.2, 0.8, n_photos).mean() + training() <= high
    assert 0.87 <= inside / trials <= 0.97
