"""Food-101 in its official layout (Bossard et al., ECCV 2014)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts.entries import Entry, dataset_of
from milvus_fghash.datasets.layouts.text_lists import read_lines
from milvus_fghash.datasets.paths import relative_path
from milvus_fghash.errors import DataError


def read(root: Path) -> Dataset:
    """``meta/classes.txt``, ``meta/train.txt`` and ``meta/test.txt`` -> dataset, the training photos first.

    Ids are the lines of the lists (``apple_pie/1005649``), labels the names of ``classes.txt``. ``labels.txt``, the
    same names for people to read, is not needed.

    Raises:
        DataError: when a file is missing or a line is malformed; with the line.
    """
    return dataset_of(root, _entries(root / "meta"))


def _entries(meta: Path) -> Iterator[Entry]:
    classes = {line.strip() for line, _ in read_lines(meta / "classes.txt")}
    for split in ("train", "test"):
        for line, where in read_lines(meta / f"{split}.txt"):
            key = relative_path(line.strip(), where)
            label, slash, _ = key.partition("/")
            if not slash:
                raise DataError(f"{where}: expected CLASS/ID, got {line!r}")
            if label not in classes:
                raise DataError(f"{where}: class {label!r} is not in {meta / 'classes.txt'}")
            yield Entry(key, f"images/{key}.jpg", label, split, where)
