"""Ctrl-C that loses no work: the first one asks to finish, the second one interrupts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from milvus_fghash.cli.messages import tell_at_once

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAID = "Finishing what was begun; once more leaves after the write under way."


@contextmanager
def finishing_when_interrupted() -> Iterator[threading.Event]:
    """An event that is set by the first SIGINT or SIGTERM; after that they do what they did before.

    Only the main thread gets signals; elsewhere the event is never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def finish(_number: int, _frame: object) -> None:
        give_back()
        asked.set()
        tell_at_once(SAID)

    for number in SIGNALS:
        signal.signal(number, finish)
    try:
        yield asked
    finally:
        give_back()
