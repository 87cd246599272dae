"""Lines that codecs, gRPC or Milvus Lite write to stderr by themselves, caught on their way."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import Final

LONGEST: Final = 1 << 16
"""Bytes; a longer line comes in parts."""
LAST: Final = b"\0\n"
"""Put behind the last line: other processes may hold the pipe open for longer than this one lives."""


def catch_stray_lines(descriptor: int, caught: Callable[[str], object]) -> int:
    """From now on, what this process and those it starts write to a descriptor is handed over, a line at a time.

    Args:
        caught: called in a thread of its own.

    Returns:
        Another descriptor, for the file that the given one stood for. At the end of Python the given one is that again.
    """
    real = os.dup(descriptor)
    reading, writing = os.pipe()
    os.dup2(writing, descriptor)
    os.close(writing)
    thread = threading.Thread(target=_hand_over, args=(reading, caught), name="stray lines", daemon=True)
    thread.start()
    atexit.register(_stop, descriptor, real, thread)
    return real


def _hand_over(reading: int, caught: Callable[[str], object]) -> None:
    with open(reading, "rb") as stream:
        while (line := stream.readline(LONGEST)) not in (LAST, b""):
            if text := line.decode(errors="backslashreplace").strip():
                caught(text)


def _stop(descriptor: int, real: int, thread: threading.Thread) -> None:
    os.write(descriptor, b"\n" + LAST)  # ends a line that is not
    thread.join(5)
    os.dup2(real, descriptor)
