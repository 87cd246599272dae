"""Text files of published data sets -> lines with their positions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from milvus_fghash.core.text_file import open_text
from milvus_fghash.errors import DataError


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """(line, "FILE, line N") pairs of all lines that are not blank.

    Raises:
        DataError: when the file is missing, cannot be read or is not UTF-8 text.
    """
    if not path.exists():
        raise DataError(f"there is no {path}; is {path.parent} the folder of the data set?")
    with open_text(path, "the list", DataError) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield line.rstrip("\n"), f"{path}, line {number}"


def read_pairs(path: Path) -> dict[str, tuple[str, str]]:
    """``KEY VALUE`` lines -> {key: (value, "FILE, line N")}; the value may hold spaces.

    Raises:
        DataError: as `read_lines`, and when a line has no value or a key occurs twice.
    """
    pairs: dict[str, tuple[str, str]] = {}
    for line, where in read_lines(path):
        key, _, value = line.strip().partition(" ")
        if not value:
            raise DataError(f"{where}: expected a number, a space and a value, got {line!r}")
        if key in pairs:
            raise DataError(f"{where}: {key} occurs a second time")
        pairs[key] = (value.strip(), where)
    return pairs
