"""Progress on stderr: a bar on a terminal; elsewhere a line now and then, so that no long run is silent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

from milvus_fghash.cli.messages import is_json, notify

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EVERY: Final = 10.0
"""Seconds between two lines that tell how far something is."""
SELDOM: Final = 60.0
"""Most seconds between two lines while nothing is counted; they grow to that from `EVERY`."""

log = logging.getLogger(__name__)


class Update(Protocol):
    """Tells how far a command is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """So much is done; where there is no bar, that is a line every `EVERY` seconds."""

    def stage(self, what: str) -> None:
        """Something else begins; where there is no bar, that is a line at once."""

    def finished(self, what: str, done: int, total: int) -> None:
        """A part is done, of which people want to know; where there is no bar, that is a line at once."""


@contextmanager
def progress_bar(label: str) -> Iterator[Update]:
    """A bar on stderr, gone when done; lines where stderr is no terminal, or JSON.

    As text a command that takes less than `EVERY` seconds tells its stages and finished parts only.
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
    """A thread repeats the last state when nothing was told for a while."""

    def __init__(self, label: str, at_once: bool) -> None:
        self._label, self._lock, self._ended = label, threading.Lock(), threading.Event()
        self._began = self._last = now = time.monotonic()
        self._due = now if at_once else now + EVERY
        self._is_quiet = not at_once
        """Whether it may still turn out to be too short for lines on how much is done."""
        self._pause = EVERY
        self._stage = self._note = ""
        self._done: int | None = None
        self._total = self._told = -1
        self._first = (now, 0)
        self._repeating = threading.Thread(target=self._repeat, daemon=True, name="progress")
        self._repeating.start()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        with self._lock:
            now = time.monotonic()
            self._count(now, done, total, note)
            is_last = done == total and not self._is_quiet
            if (now >= self._due or is_last) and done != self._told:
                self._notify(now, f"{self._counted(now)}{note and '; '}{note}")

    def stage(self, what: str) -> None:
        with self._lock:
            self._stage, self._note, self._done, self._told = what, "", None, -1
            self._say(time.monotonic(), what, "stage")

    def finished(self, what: str, done: int, total: int) -> None:
        with self._lock:
            now = time.monotonic()
            self._count(now, done, total, "")
            self._notify(now, f"{what}{self._left(now)}")

    def end(self) -> None:
        """Repeat nothing more."""
        self._ended.set()
        self._repeating.join()

    def _count(self, now: float, done: int, total: int, note: str) -> None:
        if self._done is None or total != self._total or done < self._done:  # something else is counted
            self._first, self._told = (now, done), -1
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
        """How much is done."""
        self._due, self._is_quiet = now + EVERY, False
        self._told = -1 if self._done is None else self._done
        left = self._seconds_left(now)
        facts = {} if left is None else {"seconds_left": round(left)}
        self._say(now, what, "progress", done=self._done, total=self._total, **facts)

    def _say(self, now: float, what: str, event: str, **facts: Any) -> None:
        self._last, self._pause = now, EVERY
        if self._stage:
            facts["stage"] = self._stage
        notify(f"{self._label}: {what}", event=event, what=self._label, **facts)

    def _repeat(self) -> None:
        while not self._ended.wait(EVERY):
            with self._lock:
                now = time.monotonic()
                if now - self._last < self._pause:
                    continue
                pause = min(2 * self._pause, SELDOM)
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
