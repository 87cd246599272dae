"""Results on stdout: a table, or one JSON document. Progress bars on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click

from milvus_fghash.cli.messages import is_json, tell
from milvus_fghash.outside_text import printable, printable_lines

WIDE = 200
"""Columns of a table that goes into a file or a pipe."""
PROGRESS_EVERY = 10.0
"""Seconds between two lines of JSON that tell of progress."""


def show_json(document: Any) -> None:
    """One JSON document; NaN is no JSON, so it is a bug here."""
    click.echo(json.dumps(document, indent=2, allow_nan=False, default=str))


def show_table(rows: Sequence[Mapping[str, Any]], note: str = "") -> None:
    """Rows under the keys of the first one, then a note."""
    from rich.table import Table

    table = Table(*(rows[0] if rows else ()), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    _print(table if rows else "(none)", note)


def show_record(record: Mapping[str, Any], note: str = "") -> None:
    """One name and value a line, then a note."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in record.items():
        table.add_row(name.replace("_", " "), _cell(value))
    _print(table, note)


class Update(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


@contextmanager
def progress_bar(label: str) -> Iterator[Update]:
    """A bar on stderr, gone when done. Silent when stderr is no terminal; where it is JSON, a line now and then."""
    if is_json():
        yield _ProgressLines(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    note_column = TextColumn("{task.fields[note]}", markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note_column)
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield update


class _ProgressLines:
    """The first state, the last one, and some between."""

    def __init__(self, label: str) -> None:
        self._label, self._due, self._told = label, 0.0, -1

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if (now >= self._due or done == total) and done != self._told:
            self._due, self._told = now + PROGRESS_EVERY, done
            line = f"{self._label}: {done:,} of {total:,}{note and '; '}{note}"
            tell(line, event="progress", what=self._label, done=done, total=total)


def _cell(value: object) -> Any:
    from rich.text import Text

    if value is None or (isinstance(value, dict | list | tuple) and not value):
        return Text("-")
    if isinstance(value, float):
        return Text(f"{value:.4g}")
    if isinstance(value, dict):
        return Text("\n".join(_lines(value)))
    if isinstance(value, list | tuple):
        return Text(", ".join(str(_cell(part)) for part in value))
    return Text(printable(value), overflow="fold")


def _lines(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{printable(name)}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{printable(name)}: {_cell(value)}"


def _print(table: Any, note: str) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else WIDE, highlight=False).print(table)
    if note:
        click.echo(printable_lines(note))
