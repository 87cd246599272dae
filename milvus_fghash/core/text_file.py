"""Text that others wrote: UTF-8 with or without a byte order mark, and what TOML and JSON make of it."""

from __future__ import annotations

import io
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from milvus_fghash.core.bounded_file import MAX_SETTINGS_BYTES, open_regular, read_bounded
from milvus_fghash.core.lfs_pointer import reject_pointer
from milvus_fghash.errors import ConfigError, FghashError

ENCODING: Final = "utf-8-sig"
"""UTF-8; the byte order mark that editors and spreadsheets of Windows put before it is no part of the text."""
MAX_DEPTH: Final = 64
"""Tables and lists inside each other, in TOML and JSON. What this project writes has less than ten, and code that walks
through them ends where Python's stack does."""


@contextmanager
def open_text(
    path: Path, what: str, error: type[FghashError] = ConfigError, newline: str | None = None
) -> Iterator[TextIO]:
    """A text file to read from, a regular one.

    Args:
        what: what kind of file it is, for messages: "the recipe".
        error: what is raised.
        newline: as in `open`.

    Raises:
        FghashError: of the kind ``error``, when the file cannot be read or is no UTF-8.
    """
    with _explained(path, what, error), io.TextIOWrapper(open_regular(path), ENCODING, newline=newline) as stream:
        yield stream


def read_text(
    path: Path, what: str, error: type[FghashError] = ConfigError, *, max_bytes: int = MAX_SETTINGS_BYTES
) -> str:
    """The whole of a text file that a person names, with every line break as a single line feed. It may be a pipe.

    Args:
        max_bytes: largest file that is read.
        what, error: as of `open_text`, which tells the errors, too.
    """
    with _explained(path, what, error):
        raw = io.BytesIO(read_bounded(path, max_bytes, regular=False))
        return io.TextIOWrapper(raw, ENCODING).read()


@contextmanager
def _explained(path: Path, what: str, error: type[FghashError]) -> Iterator[None]:
    reject_pointer(path, error)
    try:
        yield
    except OSError as fault:
        raise error(f"cannot read {what} {path}: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"cannot read {what} {path}: it is no UTF-8 text; save it as UTF-8") from None
    except ValueError as fault:
        if "\0" not in str(path) and not isinstance(fault, UnicodeEncodeError):  # no file can be called that
            raise
        raise error(f"cannot read {what} {str(path)!r}: {fault}") from None


def parse_toml(text: str) -> dict[str, Any]:
    """What a TOML text says.

    Raises:
        ValueError: when it is none, or one that is nested deeper than ``MAX_DEPTH``.
    """
    values: dict[str, Any] = _shallow(lambda: tomllib.loads(text))
    return values


def parse_json(raw: str | bytes, **options: Any) -> Any:
    """What a JSON text says; bytes may begin with a byte order mark. The options are those of `json.loads`.

    Raises:
        ValueError: when it is none, or one that is nested deeper than ``MAX_DEPTH``.
    """
    return _shallow(lambda: json.loads(raw, **options))


def _shallow(parse: Callable[[], Any]) -> Any:
    too_deep = f"it is nested too deep; at most {MAX_DEPTH} tables and lists may lie inside each other"
    try:
        values = parse()
    except RecursionError:
        raise ValueError(too_deep) from None
    level = [values]
    for _ in range(MAX_DEPTH):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return values
    raise ValueError(too_deep)


def _inside(value: Any) -> list[Any]:
    """The tables and lists in a table or a list."""
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [inner for inner in values if isinstance(inner, Mapping | list)]
