"""Entries of the official lists of a data set -> a dataset whose photos all exist."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.paths import check_files_exist
from milvus_fghash.errors import DataError


class Entry(NamedTuple):
    """One photo of a list."""

    id: str
    path: str
    """POSIX path relative to the data set's folder, as `paths.relative_path` returns it."""
    label: str
    split: str
    where: str
    """Its position, such as "FILE, line N", for messages."""
    number: str = ""
    """The number of its class, for lists that have one next to the name."""


def dataset_of(root: Path, entries: Iterable[Entry], hint: str = "was the data set unpacked completely?") -> Dataset:
    """A dataset in the order of the entries.

    Args:
        root: folder the paths are relative to.
        entries: may be empty; `Dataset` rejects that.
        hint: the next step, at the end of the message about a missing photo.

    Raises:
        DataError: for the first id that occurs twice, class name with two numbers or number with two names (two
            classes would count as one, or one as two), or missing photo; with its position.
    """
    entries = list(entries)
    first_of: dict[str, str] = {}
    number_of: dict[str, str] = {}
    name_of: dict[str, str] = {}
    for entry in entries:
        if entry.id in first_of:
            raise DataError(f"{entry.where}: id {entry.id!r} occurs twice, first in {first_of[entry.id]}")
        first_of[entry.id] = entry.where
        number = number_of.setdefault(entry.label, entry.number)
        if number != entry.number:
            raise DataError(f"{entry.where}: class {entry.label!r} has the number {entry.number}, but {number} above")
        name = name_of.setdefault(entry.number, entry.label)
        if entry.number and name != entry.label:
            raise DataError(f"{entry.where}: the number {number} is that of {entry.label!r}, but of {name!r} above")
    check_files_exist(root, ((entry.path, entry.where) for entry in entries), hint)
    ids, paths, labels, splits = (tuple(getattr(entry, column) for entry in entries) for column in Entry._fields[:4])
    return Dataset(root, ids, paths, labels, splits)
