"""CUB-200-2011 in its official layout (Wah et al., 2011); http://www.vision.caltech.edu/datasets/cub_200_2011/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts.entries import Entry, dataset_of
from milvus_fghash.datasets.layouts.text_lists import read_pairs
from milvus_fghash.datasets.paths import relative_path
from milvus_fghash.errors import DataError

_SPLITS = {"1": "train", "0": "test"}


def read(root: Path) -> Dataset:
    """``images.txt``, ``image_class_labels.txt``, ``classes.txt`` and ``train_test_split.txt`` -> dataset.

    Ids are those of ``images.txt``, labels the names of ``classes.txt``.

    Raises:
        DataError: when a file is missing, a line is malformed, or the files do not agree; with the line.
    """
    return dataset_of(root, _entries(root))


def _entries(root: Path) -> Iterator[Entry]:
    images = read_pairs(root / "images.txt")
    class_names = read_pairs(root / "classes.txt")
    class_of = read_pairs(root / "image_class_labels.txt")
    split_of = read_pairs(root / "train_test_split.txt")
    for key, (path, where) in images.items():
        number, number_where = _of(class_of, key, where, "image_class_labels.txt")
        label, _ = _of(class_names, number, number_where, "classes.txt")
        flag, flag_where = _of(split_of, key, where, "train_test_split.txt")
        if flag not in _SPLITS:
            raise DataError(f"{flag_where}: expected 1 (train) or 0 (test), got {flag!r}")
        yield Entry(key, "images/" + relative_path(path, where), label, _SPLITS[flag], where, number)


def _of(pairs: dict[str, tuple[str, str]], key: str, where: str, file: str) -> tuple[str, str]:
    try:
        return pairs[key]
    except KeyError:
        raise DataError(f"{where}: {key} has no line in {file}") from None
