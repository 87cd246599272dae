"""Progress on stderr: a bar on a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

from milvus_fghash.cli.terminal.messages import is_json, notify

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

INTERVAL: Final = 10.0
"""Seconds between two progress lines."""
MAX_INTERVAL: Final = 60.0
"""Seconds to which the interval grows while there is no progress."""

log = logging.getLogger(__name__)


class Update(Protocol):
    """Reports the progress of a command."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report a count; without a bar, at most one line per `INTERVAL` is printed."""

    def stage(self, what: str) -> None:
        """Report the start of a stage; without a bar, a line is printed at once."""

    def finished(self, what: str, done: int, total: int) -> None:
        """Report a completed part; without a bar, a line is printed at once."""


@contextmanager
def progress_bar(label: str) -> Iterator[Update]:
    """A transient bar on stderr; lines if stderr is no terminal or messages are JSON.

    As text, a command that takes less than `INTERVAL` seconds prints only stages and completed parts.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if is_json() or not console.is_terminal:
        lines = _Lines(label, at_once=is_json())
        try:
            yield lines
        finally:
            lines.end()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    note_column = TextColumn("{task.fields[note]}", markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note_column)
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar, bar.add_task(label, total=None, note=""))


@dataclass(frozen=True)
class _Bar:
    bar: Progress
    task: TaskID

    def __call__(self, done: int, total: int, note: str = "") -> None:
        self.bar.update(self.task, completed=done, total=total, note=note)

    def stage(self, what: str) -> None:
        self.bar.update(self.task, note=what)

    def finished(self, what: str, done: int, total: int) -> None:
        self.bar.update(self.task, completed=done, total=total)
        log.info("%s", what)


class _Lines:
    """Prints lines; a thread repeats the last state when there was no line for a while."""

    def __init__(self, label: str, at_once: bool) -> None:
        self._label, self._lock, self._ended = label, threading.Lock(), threading.Event()
        self._began = self._last = now = time.monotonic()
        self._due = now if at_once else now + INTERVAL
        self._is_quiet = not at_once
        """Whether the command may still be too short for progress lines."""
        self._pause = INTERVAL
        self._stage = self._note = ""
        self._done: int | None = None
        self._total = self._printed = -1
        self._first = (now, 0)
        self._repeating = threading.Thread(target=self._repeat, daemon=True, name="progress")
        self._repeating.start()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        with self._lock:
            now = time.monotonic()
            self._count(now, done, total, note)
            is_last = done == total and not self._is_quiet
            if (now >= self._due or is_last) and done != self._printed:
                self._notify(now, f"{self._counted(now)}{note and '; '}{note}")

    def stage(self, what: str) -> None:
        with self._lock:
            self._stage, self._note, self._done, self._printed = what, "", None, -1
            self._say(time.monotonic(), what, "stage")

    def finished(self, what: str, done: int, total: int) -> None:
        with self._lock:
            now = time.monotonic()
            self._count(now, done, total, "")
            self._notify(now, f"{what}{self._left(now)}")

    def end(self) -> None:
        """Stop the thread."""
        self._ended.set()
        self._repeating.join()

    def _count(self, now: float, done: int, total: int, note: str) -> None:
        if self._done is None or total != self._total or done < self._done:  # another count began
            self._first, self._printed = (now, done), -1
        self._done, self._total, self._note = done, total, note

    def _counted(self, now: float) -> str:
        return f"{self._done:,} of {self._total:,}{self._left(now)}"

    def _seconds_left(self, now: float) -> float | None:
        began, first = self._first
        if self._done is None or self._done <= first or now <= began:
            return None
        return (now - began) / (self._done - first) * (self._total - self._done)

    def _left(self, now: float) -> str:
        left = self._seconds_left(now)
        return f", {_shown(left)} left" if left and left >= 1 else ""

    def _notify(self, now: float, what: str) -> None:
        """Print a progress line."""
        self._due, self._is_quiet = now + INTERVAL, False
        self._printed = -1 if self._done is None else self._done
        left = self._seconds_left(now)
        facts = {} if left is None else {"seconds_left": round(left)}
        self._say(now, what, "progress", done=self._done, total=self._total, **facts)

    def _say(self, now: float, what: str, event: str, **facts: Any) -> None:
        self._last, self._pause = now, INTERVAL
        if self._stage:
            facts["stage"] = self._stage
        notify(f"{self._label}: {what}", event=event, what=self._label, **facts)

    def _repeat(self) -> None:
        while not self._ended.wait(INTERVAL):
            with self._lock:
                now = time.monotonic()
                if now - self._last < self._pause:
                    continue
                pause = min(2 * self._pause, MAX_INTERVAL)
                state = [self._stage] if self._done is None else [self._counted(now), self._note]
                words = "; ".join([*filter(None, state), f"running for {_shown(now - self._began)}"])
                if self._done is None:
                    self._say(now, words, "stage")
                else:
                    self._notify(now, words)
                self._pause = pause


def _shown(seconds: float) -> str:
    """
    >>> _shown(3725.4)
    '1:02:05'
    """
    return str(timedelta(seconds=round(seconds)))
