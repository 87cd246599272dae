"""Capture the lines that codecs, gRPC and Milvus Lite write to stderr directly."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

MAX_LINE_BYTES: Final = 1 << 16
"""Longer lines are split."""
PIPE_BYTES: Final = 1 << 20
"""Capacity of the pipe."""
END_MARK: Final = b"\0\n"
"""Written after the last line: other processes may keep the pipe open longer than this one lives."""
FLUSH_MARK: Final = b"\1\n"
"""Written to learn when all earlier lines were handled."""
FLUSH_TIMEOUT: Final = 5.0
"""Seconds."""


def capture_stderr(descriptor: int, on_line: Callable[[str], object]) -> tuple[int, Callable[[], None]]:
    """Pass everything that this process and its children write to a descriptor to ``on_line``, line by line.

    Output that exceeds the pipe before it is handled is lost.

    Args:
        on_line: called in a separate thread.

    Returns:
        A new descriptor of the original file, which the given descriptor refers to again when Python exits; and a
        function that waits until everything written so far was handled.
    """
    real = os.dup(descriptor)
    reading, writing = os.pipe()
    # Non-blocking: a codec may write while it holds the GIL, which the reading thread needs.
    with suppress(ImportError, AttributeError, OSError):
        os.set_blocking(writing, False)
        import fcntl

        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.dup2(writing, descriptor)
    os.close(writing)
    flushed = threading.Event()
    thread = threading.Thread(target=_handle, args=(reading, on_line, flushed), name="stderr capture", daemon=True)
    thread.start()
    atexit.register(_stop, descriptor, real, thread)

    def settle() -> None:
        flushed.clear()
        with suppress(OSError):  # the pipe is full, and lines are lost anyway
            os.write(descriptor, b"\n" + FLUSH_MARK)
            flushed.wait(FLUSH_TIMEOUT)

    return real, settle


def _handle(reading: int, on_line: Callable[[str], object], flushed: threading.Event) -> None:
    with open(reading, "rb") as stream:
        while (line := stream.readline(MAX_LINE_BYTES)) not in (END_MARK, b""):
            if line == FLUSH_MARK:
                flushed.set()
            elif text := line.decode(errors="backslashreplace").strip():
                on_line(text)


def _stop(descriptor: int, real: int, thread: threading.Thread) -> None:
    with suppress(AttributeError, OSError):
        os.set_blocking(descriptor, True)
    os.write(descriptor, b"\n" + END_MARK)  # the first byte ends an unfinished line
    thread.join(5)
    os.dup2(real, descriptor)
