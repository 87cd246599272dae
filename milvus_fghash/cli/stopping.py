"""Ctrl-C that loses no work: the first one asks to finish, the second one interrupts, the third one kills."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from milvus_fghash.cli.messages import notify_now

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAID = "Finishing what was begun; once more leaves after the write under way, a third time at once."


@contextmanager
def finishing_when_interrupted() -> Iterator[threading.Event]:
    """An event that is set by the first SIGINT or SIGTERM; the second does what it did before, the third kills.

    The third is the system's: what waits where Python hears no signal, as for a graph or a server, ends too. All that
    is kept is written so that a kill at any moment is safe. Only the main thread gets signals; elsewhere the event is
    never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        if not asked.is_set():
            asked.set()
            notify_now(SAID)
            return
        for one in SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        as_before = before[signal.Signals(number)]
        if callable(as_before):
            as_before(number, frame)
        elif as_before == signal.SIG_DFL:
            signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield asked
    finally:
        give_back()
