"""Learning-rate trials: each variant gets the same number of rates around its recipe's own, a factor of 3 apart.

A trial trains on a part of the training split and uses the rest of it as queries; the test photos are not touched. The
best rate has the highest mAP of the encoded gallery after the last round (never the best of several rounds). Without
``trial_bits`` every code length has trials of its own. With them, the winning factor of one tried length multiplies the
recipe's rate at all lengths nearest to it (with 12 and 48 tried, 32 takes the factor of 48).
"""

from __future__ import annotations

from collections.abc import Mapping

from milvus_fghash.errors import ConfigError
from milvus_fghash.experiments.records import Record

STEP = 3.0


def rate_factors(n: int) -> tuple[float, ...]:
    """Factors of the recipe's learning rate, one for each of ``n`` trials, ascending.

    >>> [round(factor, 3) for factor in rate_factors(3)]
    [0.333, 1.0, 3.0]

    Raises:
        ConfigError: when ``n`` is even: the recipe's own rate would not be in the middle.
    """
    if n < 1 or n % 2 == 0:
        raise ConfigError(
            f"the number of trials must be odd (the recipe's own rate is in the middle), got {n}", setting="trials"
        )
    return tuple(STEP**power for power in range(-(n // 2), n // 2 + 1))


def trial_rate(rate: float, factor: float) -> float:
    """The rate times the factor, rounded to three significant digits, so that tables show exactly the rate that was
    used; the recipe's own rate is not rounded.

    >>> trial_rate(0.001, 1 / 3), trial_rate(0.0012345, 1.0)
    (0.000333, 0.0012345)
    """
    return rate if factor == 1 else float(f"{rate * factor:.3g}")


def best_factor(trials: Mapping[float, Record]) -> float | None:
    """The factor of the best trial; of equal ones that nearest to the recipe's rate, then the lower.

    None when all trials failed.
    """
    done = {factor: record.encoded.map_exact for factor, record in trials.items() if record.encoded}
    return max(done, key=lambda factor: (done[factor], -max(factor, 1 / factor), -factor), default=None)
