"""How many learning rates, and which one wins."""

from __future__ import annotations

import itertools

import pytest

from milvus_fghash.errors import ConfigError
from milvus_fghash.experiments.learning_rates import best_factor, rate_factors, trial_rate
from tests.helpers.made_up_records import record


@pytest.mark.parametrize("n", [1, 3, 5, 7])
def test_factors_lie_evenly_around_one(n: int) -> None:
    made = rate_factors(n)
    assert len(made) == n
    assert made[n // 2] == 1.0
    assert [above / below for below, above in itertools.pairwise(made)] == pytest.approx([3.0] * (n - 1))


@pytest.mark.parametrize("n", [0, 2, 4, -1])
def test_an_even_number_has_no_middle(n: int) -> None:
    with pytest.raises(ConfigError, match=f"must be odd.*got {n}"):
        rate_factors(n)


@pytest.mark.parametrize(
    ("figures", "best"),
    [
        ((0.1, 0.2, 0.3), 3.0),
        ((0.3, 0.2, 0.1), 1 / 3),
        ((None, 0.2, 0.1), 1.0),
        ((0.1, None, None), 1 / 3),
        ((0.2, 0.2, 0.2), 1.0),
        ((0.2, 0.1, 0.2), 1 / 3),
        ((None, None, None), None),
    ],
)
def test_the_best_wins_then_the_one_nearest_the_recipe(figures: tuple[float | None, ...], best: float | None) -> None:
    trials = {
        rate_factor: record(str(rate_factor), value, 0.9)
        for rate_factor, value in zip(rate_factors(3), figures, strict=True)
    }
    assert best_factor(trials) == best
    assert best_factor(dict(reversed(trials.items()))) == best


def test_the_learned_gallery_has_no_say() -> None:
    assert best_factor({1.0: record("a", 0.2, 0.1), 3.0: record("b", 0.1, 0.9)}) == 1.0


def test_a_rate_is_what_the_table_shows() -> None:
    assert [trial_rate(0.003, factor) for factor in rate_factors(3)] == [0.001, 0.003, 0.009]
    assert float(f"{trial_rate(0.0025, 1 / 3):.3g}") == trial_rate(0.0025, 1 / 3)
