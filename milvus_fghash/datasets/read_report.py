"""What a reader reports about a dataset: where the classes come from, warnings, and which files were left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

LINKED: Final = "linked folder"
"""Key in `LeftOut.counts` for links to folders that were not followed."""
MAX_KINDS_SHOWN: Final = 8
"""Kinds of left-out files that a message names; the others are added up."""
MAX_SUFFIX_LENGTH: Final = 10
_ARCHIVES: Final = frozenset({".tar", ".zip"})
MAX_EXAMPLE_LENGTH: Final = 120


@dataclass
class LeftOut:
    """Files and folders that are not part of the dataset, by kind.

    Attributes:
        counts: kind, such as ".heic" or "hidden" -> number. A folder counts once, whatever it holds.
        first: kind -> path of the first one.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, path: str) -> None:
        """Count one."""
        self.counts[kind] += 1
        self.first.setdefault(kind, path)

    def add_file(self, path: str) -> None:
        """Count a file by its suffix."""
        suffix = PurePosixPath(path).suffix.lower()
        self.add(suffix if 1 < len(suffix) <= MAX_SUFFIX_LENGTH else "other file", path)

    def __str__(self) -> str:
        """For messages: '3 .heic (a.heic, ...), 1 linked folder (robin)'; "" when nothing was left out."""
        shown = [
            f"{count:,} {what} ({self._example(what)})" for what, count in self.counts.most_common(MAX_KINDS_SHOWN)
        ]
        if rest := self.counts.total() - sum(count for _, count in self.counts.most_common(MAX_KINDS_SHOWN)):
            shown.append(f"{rest:,} of other kinds")
        return ", ".join(shown)

    @property
    def hint(self) -> str:
        """How to include some of them; "" where there is no way."""
        hints = []
        if LINKED in self.counts:
            hints.append("follow links to read linked folders")
        if self.counts.keys() & _ARCHIVES:
            hints.append("choose the layout archive to read archives")
        return "; ".join(hints)

    def _example(self, what: str) -> str:
        path = self.first[what].encode(errors="backslashreplace").decode()
        path = path if len(path) <= MAX_EXAMPLE_LENGTH else f"...{path[-MAX_EXAMPLE_LENGTH:]}"
        return f"{path}, ..." if self.counts[what] > 1 else path


@dataclass(frozen=True)
class ReadReport:
    """How a dataset was read.

    Attributes:
        classes: where the classes come from, or why there are none, such as "from the folder of each photo".
        warnings: sentences about classes that may be wrong.
        left_out: files and folders that are not part of the dataset.
    """

    classes: str = ""
    warnings: tuple[str, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)
