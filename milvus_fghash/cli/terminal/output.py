"""Results on stdout: a table, or one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from milvus_fghash.core.untrusted_text import printable, printable_lines

PIPE_WIDTH = 200
"""Width, in characters, of a table that is not written to a terminal."""


def show_json(document: Any) -> None:
    """Print one JSON document; NaN has no JSON form and raises."""
    click.echo(json.dumps(document, indent=2, allow_nan=False, default=str))


def show(record: Mapping[str, Any], as_json: bool, note: str = "") -> None:
    """Print a record as JSON, or as lines followed by a note."""
    if as_json:
        show_json(record)
    else:
        show_record(record, note)


def show_table(rows: Sequence[Mapping[str, Any]], note: str = "") -> None:
    """Print rows below the keys of the first row, then a note."""
    from rich.table import Table

    table = Table(*(rows[0] if rows else ()), box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    _print(table if rows else "(none)", note)


def show_record(record: Mapping[str, Any], note: str = "") -> None:
    """Print one name and value per line, then a note."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in record.items():
        table.add_row(name.replace("_", " "), _cell(value))
    _print(table, note)


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
    return Text(_shown(value), overflow="fold")


def _shown(value: object) -> str:
    """`printable`, in characters that stdout can encode, so that column widths are right."""
    encoding = sys.stdout.encoding or "utf-8"
    return printable(value).encode(encoding, "backslashreplace").decode(encoding)


def _lines(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{_shown(name)}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{_shown(name)}: {_cell(value)}"


def _print(table: Any, note: str) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False).print(table)
    if note:
        click.echo(printable_lines(note))
