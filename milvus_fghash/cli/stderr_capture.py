"""Lines that codecs, gRPC or Milvus Lite write to stderr by themselves, caught on their way."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

LONGEST: Final = 1 << 16
"""Bytes; a longer line comes in parts."""
ROOM: Final = 1 << 20
"""Bytes that wait to be read."""
LAST: Final = b"\0\n"
"""Put behind the last line: other processes may hold the pipe open for longer than this one lives."""
SO_FAR: Final = b"\1\n"
"""Put behind the lines that were written so far."""
MAX_WAIT: Final = 5.0
"""Seconds to wait for lines that are being handed over."""


def capture_stderr(descriptor: int, caught: Callable[[str], object]) -> tuple[int, Callable[[], None]]:
    """From now on, what this process and those it starts write to a descriptor is handed over, a line at a time.

    What is written faster than it is handed over, is lost.

    Args:
        caught: called in a thread of its own.

    Returns:
        Another descriptor, for the file that the given one stood for; at the end of Python the given one is that again.
        And what waits until all that was written so far is handed over.
    """
    real = os.dup(descriptor)
    reading, writing = os.pipe()
    # Whoever holds Python's lock while a codec writes must not wait for the thread, which needs that lock to read.
    with suppress(ImportError, AttributeError, OSError):
        os.set_blocking(writing, False)
        import fcntl

        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, ROOM)
    os.dup2(writing, descriptor)
    os.close(writing)
    handed_over = threading.Event()
    thread = threading.Thread(target=_hand_over, args=(reading, caught, handed_over), name="stray lines", daemon=True)
    thread.start()
    atexit.register(_stop, descriptor, real, thread)

    def settle() -> None:
        handed_over.clear()
        with suppress(OSError):  # no room: then lines are lost anyway
            os.write(descriptor, b"\n" + SO_FAR)
            handed_over.wait(MAX_WAIT)

    return real, settle


def _hand_over(reading: int, caught: Callable[[str], object], handed_over: threading.Event) -> None:
    with open(reading, "rb") as stream:
        while (line := stream.readline(LONGEST)) not in (LAST, b""):
            if line == SO_FAR:
                handed_over.set()
            elif text := line.decode(errors="backslashreplace").strip():
                caught(text)


def _stop(descriptor: int, real: int, thread: threading.Thread) -> None:
    with suppress(AttributeError, OSError):
        os.set_blocking(descriptor, True)
    os.write(descriptor, b"\n" + LAST)  # the first byte ends a line that nobody ended
    thread.join(5)
    os.dup2(real, descriptor)
