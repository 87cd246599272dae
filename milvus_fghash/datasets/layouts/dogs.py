"""Stanford Dogs in its official layout (Khosla et al., 2011); http://vision.stanford.edu/aditya86/ImageNetDogs/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts.entries import Entry, dataset_of
from milvus_fghash.datasets.layouts.matlab import read_numbers, read_texts
from milvus_fghash.datasets.paths import relative_path
from milvus_fghash.errors import DataError

_SPLITS = ("train", "test")


def read(root: Path) -> Dataset:
    """``train_list.mat`` and ``test_list.mat``, unpacked next to ``Images/`` -> dataset, the training photos first.

    Ids are the names in the lists (``n02085620-Chihuahua/n02085620_5927.jpg``), labels the class folders; the numbers
    in ``labels`` have to agree with them.

    Raises:
        DataError: when a file is missing or an entry is malformed; with the entry.
    """
    return dataset_of(root, _entries(root))


def _entries(root: Path) -> Iterator[Entry]:
    for split in _SPLITS:
        file = root / f"{split}_list.mat"
        names, numbers = read_texts(file, "file_list"), read_numbers(file, "labels")
        if len(names) != len(numbers):
            raise DataError(f"{file}: {len(names)} names in file_list, but {len(numbers)} numbers in labels")
        for position, (name, number) in enumerate(zip(names, numbers, strict=True), start=1):
            where = f"{file}, entry {position}"
            key = relative_path(name, where)
            label, slash, _ = key.partition("/")
            if not slash:
                raise DataError(f"{where}: expected CLASS/PHOTO, got {name!r}")
            yield Entry(key, f"Images/{key}", label, split, where, str(number))
