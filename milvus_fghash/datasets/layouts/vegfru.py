"""VegFru in its official layout (Hou et al., ICCV 2017), with the 292 sub-classes; https://github.com/ustc-vim/vegfru."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts.entries import Entry, dataset_of
from milvus_fghash.datasets.layouts.text_lists import read_lines
from milvus_fghash.datasets.paths import relative_path
from milvus_fghash.errors import DataError

_SPLITS = ("train", "val", "test")


def read(root: Path) -> Dataset:
    """``vegfru_list/vegfru_train.txt``, ``vegfru_val.txt`` and ``vegfru_test.txt`` -> dataset.

    A line is ``veg200_images/CLASS/PHOTO NUMBER`` (or ``fru92_images``). Ids are the paths, labels the class folders;
    the numbers have to agree with them. The papers train on `train`, search in it, and leave `val` out.

    Raises:
        DataError: when a file is missing or a line is malformed; with the line.
    """
    return dataset_of(root, _entries(root))


def _entries(root: Path) -> Iterator[Entry]:
    for split in _SPLITS:
        for line, where in read_lines(root / "vegfru_list" / f"vegfru_{split}.txt"):
            written, _, number = line.strip().rpartition(" ")
            path = relative_path(written, where) if written else ""
            folders = path.split("/")
            if len(folders) != 3 or not number.isdecimal():
                raise DataError(f"{where}: expected FOLDER/CLASS/PHOTO and a class number, got {line!r}")
            yield Entry(path, path, folders[1], split, where, number)
