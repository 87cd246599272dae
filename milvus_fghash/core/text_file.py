"""Untrusted text files: UTF-8 with or without a byte order mark, and TOML and JSON of limited depth."""

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
"""UTF-8; the byte order mark that programs on Windows write is skipped."""
MAX_DEPTH: Final = 64
"""Nesting of tables and lists in TOML and JSON. This project writes fewer than ten levels, and recursive code would
overflow Python's stack on deep ones."""


@contextmanager
def open_text(
    path: Path, what: str, error: type[FghashError] = ConfigError, newline: str | None = None
) -> Iterator[TextIO]:
    """Open a text file, which must be a regular one.

    Args:
        what: the kind of file, for messages, such as "the recipe".
        error: the exception to raise.
        newline: as in `open`.

    Raises:
        FghashError: of the type ``error``, when the file cannot be read or is not UTF-8.
    """
    with _explained(path, what, error), io.TextIOWrapper(open_regular(path), ENCODING, newline=newline) as stream:
        yield stream


def read_text(
    path: Path, what: str, error: type[FghashError] = ConfigError, *, max_bytes: int = MAX_SETTINGS_BYTES
) -> str:
    """The text of a file named by a person, with line breaks as line feeds. It may be a pipe.

    Args:
        max_bytes: largest file that is read.
        what, error: as in `open_text`, also for the exceptions.
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
        raise error(f"cannot read {what} {path}: it is not UTF-8 text; save it as UTF-8") from None
    except ValueError as fault:
        if "\0" not in str(path) and not isinstance(fault, UnicodeEncodeError):  # else an impossible file name
            raise
        raise error(f"cannot read {what} {str(path)!r}: {fault}") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: when it is malformed, or nested deeper than ``MAX_DEPTH``.
    """
    values: dict[str, Any] = _shallow(lambda: tomllib.loads(text))
    return values


def parse_json(raw: str | bytes, **options: Any) -> Any:
    """Parse JSON; bytes may begin with a byte order mark. The options are those of `json.loads`.

    Raises:
        ValueError: when it is malformed, or nested deeper than ``MAX_DEPTH``.
    """
    return _shallow(lambda: json.loads(raw, **options))


def _shallow(parse: Callable[[], Any]) -> Any:
    too_deep = f"it is nested too deeply; at most {MAX_DEPTH} levels of tables and lists are allowed"
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
    """The tables and lists directly in a table or a list."""
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [inner for inner in values if isinstance(inner, Mapping | list)]
