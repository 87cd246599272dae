"""CIFAR-10 in its official binary version (Krizhevsky, 2009); https://www.cs.toronto.edu/~kriz/cifar.html.

The Python version is not read: its pickles can run code.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milvus_fghash.core.bounded_file import check_regular
from milvus_fghash.core.lfs_pointer import reject_pointer
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts.entries import Entry, dataset_of
from milvus_fghash.datasets.layouts.text_lists import read_lines
from milvus_fghash.errors import DataError

_PHOTOS = "png"
"""Folder that is created next to the batches."""

_SPLITS = {**{f"data_batch_{number}": "train" for number in range(1, 6)}, "test_batch": "test"}
_PLANES = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
"""Bytes of a photo: its class number, then the rows of its red, green and blue plane."""

_Records = NDArray[np.uint8]


def read(root: Path) -> Dataset:
    """``batches.meta.txt``, ``data_batch_1.bin`` to ``_5.bin`` and ``test_batch.bin`` -> dataset.

    All other code works with photos in files, so the first call writes each photo as ``png/BATCH/NUMBER.png``, without
    loss: 60,000 files, in about a minute. The folder appears when all are written; later calls use it.
    Ids are ``BATCH/NUMBER``, labels the names of ``batches.meta.txt``.

    Raises:
        DataError: when a file is missing, has the wrong length or names an unknown class, or the photos cannot be
            written.
    """
    if (root / "batches.meta").is_file() and not (root / "batches.meta.txt").is_file():
        raise DataError(
            f"{root} holds the Python version of CIFAR-10, whose pickles can run code; "
            "unpack the binary version, cifar-10-binary.tar.gz"
        )
    names = [line.strip() for line, _ in read_lines(root / "batches.meta.txt")]
    batches = {batch: _records(root / f"{batch}.bin") for batch in _SPLITS}
    entries = list(_entries(root, names, batches))
    if not (root / _PHOTOS).exists():
        _unpack(root, batches)
    return dataset_of(root, entries, f"remove the folder {root / _PHOTOS}, and it is created again")


def _records(file: Path) -> _Records:
    """(n, 3073) bytes."""
    reject_pointer(file, DataError)
    try:
        check_regular(file)
        content = np.fromfile(file, np.uint8)
    except FileNotFoundError:
        raise DataError(f"there is no {file}; is {file.parent} the folder of the data set?") from None
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from None
    if len(content) % _RECORD:
        raise DataError(f"{file} has {len(content):,} bytes, expected a multiple of {_RECORD:,}; unpack it again")
    return content.reshape(-1, _RECORD)


def _entries(root: Path, names: list[str], batches: Mapping[str, _Records]) -> Iterator[Entry]:
    for batch, records in batches.items():
        for position, number in enumerate(records[:, 0].tolist(), start=1):
            where = f"{root / batch}.bin, photo {position}"
            if number >= len(names):
                raise DataError(f"{where}: class {number}, but batches.meta.txt names {len(names)}, counted from 0")
            key = f"{batch}/{position:05}"
            yield Entry(key, f"{_PHOTOS}/{key}.png", names[number], _SPLITS[batch], where, str(number))


def _unpack(root: Path, batches: Mapping[str, _Records]) -> None:
    """Without fsync: the files can be created again, and 60,000 calls take minutes."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{_PHOTOS}-", dir=root) as working:
            made = Path(working) / _PHOTOS
            for batch, records in batches.items():
                (made / batch).mkdir(parents=True)
                for position, record in enumerate(records, start=1):
                    pixels = np.ascontiguousarray(record[1:].reshape(_PLANES).transpose(1, 2, 0))
                    Image.fromarray(pixels).save(made / batch / f"{position:05}.png")
            os.rename(made, root / _PHOTOS)
    except OSError as error:
        if not (root / _PHOTOS).is_dir():  # it exists when another process was faster
            raise DataError(f"cannot write the photos to {root / _PHOTOS}: {error.strerror}") from error
