"""What Milvus could not take just now is tried again, for a bounded time."""

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
    """How long and how often a call is made again.

    Pauses double from ``first`` to ``longest`` seconds; each is drawn between half of itself and itself, so that many
    clients of one server do not come back at the same moment.
    """

    seconds: float = 300.0
    """From the first failure on. A Milvus that was killed needs a minute to come back."""
    first: float = 0.5
    longest: float = 15.0

    def call(self, call: Callable[[], T], stop: threading.Event, notify: Notify = lambda line: None) -> T:
        """Make a call, again while Milvus is only busy; its result.

        Args:
            stop: when it is set, the pause ends and the last error is raised.
            notify: called with a line before the first pause, and when the call went through after all.

        Raises:
            StoreBusy: when time is over, or ``stop`` is set.
            StoreError: at once, for what no waiting repairs.
        """
        pause, failed_first = self.first, 0.0
        while True:
            try:
                result = call()
            except StoreBusy as error:
                now = time.monotonic()
                if not failed_first:
                    failed_first = now
                    notify(f"{error}; trying again for {self.seconds:.0f} s")
                left = failed_first + self.seconds - now
                if left <= 0:
                    raise StoreBusy(f"{error}; gave up after {self.seconds:.0f} s", setting="retry") from error
                if stop.wait(min(left, pause * random.uniform(0.5, 1))):
                    raise
                pause = min(2 * pause, self.longest)
            else:
                if failed_first:
                    notify("Milvus is back")
                return result
