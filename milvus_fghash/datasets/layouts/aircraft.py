"""FGVC-Aircraft in its official layout (Maji et al., 2013); https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts.entries import Entry, dataset_of
from milvus_fghash.datasets.layouts.text_lists import read_lines, read_pairs
from milvus_fghash.datasets.paths import relative_path
from milvus_fghash.errors import DataError

_LISTS = {"train": "images_variant_trainval.txt", "test": "images_variant_test.txt"}


def read(root: Path) -> Dataset:
    """The variants, the finest of the annotated levels, from ``data/`` -> dataset, the training photos first.

    Ids are the names of the photos (``0787226``), labels the names of ``variants.txt``. The photos keep the line of
    copyright at their lower edge, 20 pixels high.

    Raises:
        DataError: when a file is missing, a line is malformed or names no variant; with the line.
    """
    return dataset_of(root, _entries(root / "data"))


def _entries(data: Path) -> Iterator[Entry]:
    variants = {line.strip() for line, _ in read_lines(data / "variants.txt")}
    for split, file in _LISTS.items():
        for key, (variant, where) in read_pairs(data / file).items():
            if variant not in variants:
                raise DataError(f"{where}: variant {variant!r} is not in {data / 'variants.txt'}")
            yield Entry(key, "data/images/" + relative_path(f"{key}.jpg", where), variant, split, where)
