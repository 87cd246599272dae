"""Learning-rate trials: for every row the same number of rates around its recipe's own, a factor 3 apart.

A trial trains on a part of the training split and asks with the rest of it; the test photos are not touched. What
counts is the mAP of the encoded gallery after the last round, never the best of several rounds. Each code length has
its own trials, or some have them for all: the factor that wins there multiplies the recipe's rate also at those lengths
that are nearer to it than to any other one tried (with 12 and 48 tried, 32 takes the factor of 48).
"""

from __future__ import annotations

from collections.abc import Mapping

from milvus_fghash.errors import ConfigError
from milvus_fghash.experiments.records import Record

STEP = 3.0


def factors(n: int) -> tuple[float, ...]:
    """What the recipe's rate is multiplied by in each trial, ascending.

    >>> [round(factor, 3) for factor in factors(3)]
    [0.333, 1.0, 3.0]

    Raises:
        ConfigError: when ``n`` is even: then the recipe's own rate would have no place in the middle.
    """
    if n < 1 or n % 2 == 0:
        raise ConfigError(f"the number of trials must be odd (the recipe's own rate stands in the middle), got {n}")
    return tuple(STEP**power for power in range(-(n // 2), n // 2 + 1))


def tried_rate(rate: float, factor: float) -> float:
    """Three significant digits, so that tables and records show the rate that was run; the recipe's own is as printed.

    >>> tried_rate(0.001, 1 / 3), tried_rate(0.0012345, 1.0)
    (0.000333, 0.0012345)
    """
    return rate if factor == 1 else float(f"{rate * factor:.3g}")


def best_factor(trials: Mapping[float, Record]) -> float | None:
    """The factor of the best trial; of equally good ones that nearest the recipe's rate, then the lower.

    None when all trials failed.
    """
    done = {factor: record.encoded.map_exact for factor, record in trials.items() if record.encoded}
    return max(done, key=lambda factor: (done[factor], -max(factor, 1 / factor), -factor), default=None)
