"""What the official lists of a data set say of its photos -> a listing of photos that are there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.paths import check_files_exist
from milvus_fghash.errors import DataError


class Entry(NamedTuple):
    """One photo, as a list names it."""

    id: str
    path: str
    """POSIX path relative to the data set's folder, as `paths.inside` gives it."""
    label: str
    split: str
    where: str
    """Where it stands, such as "FILE, line N", for messages."""
    number: str = ""
    """The number of its class, where the list gives one beside the name."""


def dataset_of(root: Path, entries: Iterable[Entry], hint: str = "was the data set unpacked completely?") -> Dataset:
    """A listing in the order of the entries.

    Args:
        root: folder the paths are relative to.
        entries: may be empty; `Dataset` rejects that.
        hint: the end of the message when a photo is missing: what to do.

    Raises:
        DataError: for the first id that stands twice, class name with two numbers or number with two names (two
            classes would count as one, or one as two), or photo that is not there; with its place.
    """
    entries = list(entries)
    first_of: dict[str, str] = {}
    number_of: dict[str, str] = {}
    name_of: dict[str, str] = {}
    for entry in entries:
        if entry.id in first_of:
            raise DataError(f"{entry.where}: id {entry.id!r} stands twice, first in {first_of[entry.id]}")
        first_of[entry.id] = entry.where
        number = number_of.setdefault(entry.label, entry.number)
        if number != entry.number:
            raise DataError(
                f"{entry.where}: class {entry.label!r} has the number {entry.number} here and {number} before"
            )
        name = name_of.setdefault(entry.number, entry.label)
        if entry.number and name != entry.label:
            raise DataError(
                f"{entry.where}: the number {number} stands for {entry.label!r} here and for {name!r} before"
            )
    check_files_exist(root, ((entry.path, entry.where) for entry in entries), hint)
    ids, paths, labels, splits = (tuple(getattr(entry, column) for entry in entries) for column in Entry._fields[:4])
    return Dataset(root, ids, paths, labels, splits)
