"""How much memory a process and its children take at the most, as Linux tells it in /proc."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

LOOK_UP = 0.05
"""Seconds between two looks; a process tells its highest mark, so that only one that lives shorter is missed."""


@dataclass
class Peaks:
    """Bytes."""

    parent: int = 0
    decoders: dict[int, int] = field(default_factory=Counter)
    """Process id -> peak of a process that decodes photos."""

    @property
    def decoder(self) -> int:
        return max(self.decoders.values(), default=0)


@contextmanager
def watched(pid: int) -> Iterator[Peaks]:
    """Peaks that grow until the end of the block."""
    peaks, done = Peaks(), threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_UP):
            peaks.parent = max(peaks.parent, _highest(pid))
            for child in _children(pid):
                if "decode_worker" in _read(child, "cmdline"):
                    peaks.decoders[child] = max(peaks.decoders[child], _highest(child))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:  # it has ended
        return ""


def _highest(pid: int) -> int:
    for line in _read(pid, "status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").glob("*")
        for child in _read(pid, f"task/{task.name}/children").split()
    ]
