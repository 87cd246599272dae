"""Oxford Flowers-102 in its official layout (Nilsback & Zisserman, 2008); https://www.robots.ox.ac.uk/~vgg/data/flowers/102/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts.entries import Entry, dataset_of
from milvus_fghash.datasets.layouts.matlab import read_numbers
from milvus_fghash.errors import DataError

_SPLITS = {"trnid": "train", "valid": "val", "tstid": "test"}


def read(root: Path) -> Dataset:
    """``imagelabels.mat`` and ``setid.mat``, next to ``jpg/`` -> dataset, the training photos first.

    Ids are the numbers of the photos (1 is ``jpg/image_00001.jpg``); labels are the numbers of the classes, 001 to
    102, as no name comes with the data. The splits stay as published: 1,020 photos to train, 1,020 in `val`, and
    6,149 to test.

    Raises:
        DataError: when a file is missing, or a number has no photo or no label; with its position.
    """
    return dataset_of(root, _entries(root))


def _entries(root: Path) -> Iterator[Entry]:
    labels = read_numbers(root / "imagelabels.mat", "labels")
    if labels and min(labels) < 1:
        raise DataError(f"{root / 'imagelabels.mat'}: classes are numbered from 1, got {min(labels)}")
    for variable, split in _SPLITS.items():
        for position, number in enumerate(read_numbers(root / "setid.mat", variable), start=1):
            where = f"{root / 'setid.mat'}, {variable}, entry {position}"
            if not 1 <= number <= len(labels):
                raise DataError(f"{where}: photo {number} is none of the {len(labels)} in imagelabels.mat")
            yield Entry(str(number), f"jpg/image_{number:05}.jpg", f"{labels[number - 1]:03}", split, where)
