"""Retries of calls that failed because Milvus was unavailable or overloaded, for a limited time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from milvus_fghash.core.callbacks import Notify
from milvus_fghash.errors import StoreBusy

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """How long, and at which intervals, a call to Milvus is retried.

    Pauses double from ``first_pause`` to ``max_pause``. Each is shortened at random by up to a half, so that many
    clients of one server do not come back at the same moment.

    Attributes:
        seconds: time limit, counted from the first failure. Default: 300; a Milvus that was killed needs about a
            minute to come back.
        first_pause: seconds before the first retry.
        max_pause: longest pause in seconds.

    Examples:
        >>> RetryPolicy(seconds=60).call(lambda: "a result", threading.Event())
        'a result'
    """

    seconds: float = 300.0
    first_pause: float = 0.5
    max_pause: float = 15.0

    def call(self, call: Callable[[], T], stop: threading.Event, notify: Notify = lambda message: None) -> T:
        """Make a call, and repeat it while Milvus is unavailable or overloaded.

        Args:
            call: the call; only `StoreBusy` leads to a retry.
            stop: once set, ends the pause and raises the last error.
            notify: called with a message before the first pause, and when the call finally succeeds.

        Returns:
            The result of the call.

        Raises:
            StoreBusy: if the time limit is reached, or ``stop`` is set.
            StoreError: at once, for an error that waiting does not resolve.
        """
        pause, first_failure = self.first_pause, 0.0
        while True:
            try:
                result = call()
            except StoreBusy as error:
                now = time.monotonic()
                if not first_failure:
                    first_failure = now
                    notify(f"{error}; retrying for {self.seconds:.0f} s")
                left = first_failure + self.seconds - now
                if left <= 0:
                    raise StoreBusy(f"{error}; gave up after {self.seconds:.0f} s", setting="retry") from error
                if stop.wait(min(left, pause * random.uniform(0.5, 1))):
                    raise
                pause = min(2 * pause, self.max_pause)
            else:
                if first_failure:
                    notify("Milvus is available again")
                return result
