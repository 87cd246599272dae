"""Ctrl-C without loss of work: the first stops after the work in progress, the second interrupts, the third kills."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from milvus_fghash.cli.terminal.messages import notify_now

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = (
    "Finishing the work in progress. Press Ctrl-C again to stop after the current write, a third time to exit now."
)


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second calls the previous handler, the third kills.

    The third uses the system's default action, which also ends code that Python cannot interrupt, such as a model run
    or a call to a server. A kill is safe at any moment, because every file is written atomically. Only the main thread
    receives signals; in other threads the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        if not stop.is_set():
            stop.set()
            notify_now(STOPPING)
            return
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        previous = before[signal.Signals(number)]
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()
