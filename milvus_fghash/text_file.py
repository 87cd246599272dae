"""Text that others wrote: UTF-8 with or without a byte order mark, and what TOML and JSON make of it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from milvus_fghash.errors import ConfigError, FghashError
from milvus_fghash.lfs_pointer import refuse_pointer

ENCODING: Final = "utf-8-sig"
"""UTF-8; the byte order mark that editors and spreadsheets of Windows put before it is no part of the text."""


@contextmanager
def open_text(
    path: Path, what: str, error: type[FghashError] = ConfigError, newline: str | None = None
) -> Iterator[TextIO]:
    """A text file to read from.

    Args:
        what: what kind of file it is, for messages: "the recipe".
        error: what is raised.
        newline: as in `open`.

    Raises:
        FghashError: of the kind ``error``, when the file cannot be read or is no UTF-8.
    """
    refuse_pointer(path, error)
    try:
        with open(path, encoding=ENCODING, newline=newline) as stream:
            yield stream
    except OSError as fault:
        raise error(f"cannot read {what} {path}: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise error(f"cannot read {what} {path}: it is no UTF-8 text; save it as UTF-8") from None
    except ValueError as fault:
        if "\0" not in str(path):  # no file can be called that
            raise
        raise error(f"cannot read {what} {str(path)!r}: {fault}") from None


def read_text(path: Path, what: str, error: type[FghashError] = ConfigError) -> str:
    """The whole of a text file, with every line break as a single line feed; arguments and errors of `open_text`."""
    with open_text(path, what, error) as stream:
        return stream.read()


def parse_toml(text: str) -> dict[str, Any]:
    """What a TOML text says.

    Raises:
        ValueError: when it is none, or one that is nested too deep.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def parse_json(raw: str | bytes, **options: Any) -> Any:
    """What a JSON text says; bytes may begin with a byte order mark. The options are those of `json.loads`.

    Raises:
        ValueError: when it is none, or one that is nested too deep.
    """
    try:
        return json.loads(raw, **options)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
