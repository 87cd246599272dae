"""What a reader found: where the classes come from, what was left out, what a person should know of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

LINKED: Final = "linked folder"
"""What `LeftOut` calls a link to a folder that was not followed."""
KINDS_SHOWN: Final = 8
"""Kinds of what was left out that are named; the others are added up."""
MAX_SUFFIX_LENGTH: Final = 10
_ARCHIVES: Final = frozenset({".tar", ".zip"})
MAX_EXAMPLE_LENGTH: Final = 120


@dataclass
class LeftOut:
    """Files and folders that are no photos of the data set, by what they are.

    Attributes:
        counts: what -> how many. A folder counts once, whatever it holds.
        first: what -> the path of the first one.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, path: str) -> None:
        """Count one."""
        self.counts[what] += 1
        self.first.setdefault(what, path)

    def add_file(self, path: str) -> None:
        """Count a file by its suffix."""
        suffix = PurePosixPath(path).suffix.lower()
        self.add(suffix if 1 < len(suffix) <= MAX_SUFFIX_LENGTH else "other file", path)

    def __str__(self) -> str:
        """As a list: '3 .heic (a.heic, ...), 1 linked folder (robin)'; "" when there is nothing."""
        shown = [f"{count:,} {what} ({self._example(what)})" for what, count in self.counts.most_common(KINDS_SHOWN)]
        if rest := self.counts.total() - sum(count for _, count in self.counts.most_common(KINDS_SHOWN)):
            shown.append(f"{rest:,} of other kinds")
        return ", ".join(shown)

    @property
    def hint(self) -> str:
        """How to take some of it in after all; "" where nothing is known."""
        hints = []
        if LINKED in self.counts:
            hints.append("follow links to read linked folders")
        if self.counts.keys() & _ARCHIVES:
            hints.append("name the layout archive to read archives")
        return "; ".join(hints)

    def _example(self, what: str) -> str:
        path = self.first[what].encode(errors="backslashreplace").decode()
        path = path if len(path) <= MAX_EXAMPLE_LENGTH else f"...{path[-MAX_EXAMPLE_LENGTH:]}"
        return f"{path}, ..." if self.counts[what] > 1 else path


@dataclass(frozen=True)
class ReadReport:
    """What is to be said of a listing before work begins.

    Attributes:
        classes: where the class of a photo is read from, or why there is none; stands in brackets.
        warnings: what is doubtful about the classes, a sentence each.
        left_out: what lies beside the photos.
    """

    classes: str = ""
    warnings: tuple[str, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)
