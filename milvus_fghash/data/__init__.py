"""Data sets on disk -> `Listing`. One reader for each layout; nothing downstream knows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from milvus_fghash.data import cub, folder, food101, table
from milvus_fghash.data.listing import Listing
from milvus_fghash.errors import DataError, nearest

__all__ = ["DATASETS", "DatasetCard", "Listing", "detect", "read"]


@dataclass(frozen=True)
class DatasetCard:
    """What a reader reads."""

    title: str
    layout: str
    """What has to lie in the folder (or file) given."""
    source: str
    """Where the data or the layout comes from."""
    read: Callable[[Path], Listing]


DATASETS = {
    "cub": DatasetCard(
        "CUB-200-2011 birds",
        "images.txt, image_class_labels.txt, classes.txt, train_test_split.txt, images/CLASS/*.jpg",
        "Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011",
        cub.read,
    ),
    "food101": DatasetCard(
        "Food-101 dishes",
        "meta/classes.txt, meta/train.txt, meta/test.txt, images/CLASS/ID.jpg",
        "Bossard et al., Food-101: Mining Discriminative Components with Random Forests, ECCV 2014",
        food101.read,
    ),
    "folder": DatasetCard(
        "A folder of photos",
        "CLASS/*.jpg, or train/CLASS/*.jpg and test/CLASS/*.jpg (also val/), or photos without classes",
        "your own photos",
        folder.read,
    ),
    "table": DatasetCard(
        "A CSV or Parquet file that lists photos",
        "columns path (relative to the file's folder) and optionally id, label, split",
        "your own list",
        table.read,
    ),
}


def read(dataset: str, root: Path) -> Listing:
    """List the photos below ``root`` (for `table`: in the file ``root``).

    Raises:
        DataError: when there is no such data set, or ``root`` does not hold its layout.
    """
    if dataset not in DATASETS:
        raise DataError(f"no data set named {dataset!r}. {nearest(dataset, DATASETS)}")
    return DATASETS[dataset].read(root)


def detect(root: Path) -> str:
    """The data set whose layout ``root`` has; `folder` when it looks like no other."""
    if root.suffix.lower() in table.SUFFIXES and not root.is_dir():
        return "table"
    if (root / "images.txt").is_file() and (root / "train_test_split.txt").is_file():
        return "cub"
    if (root / "meta" / "train.txt").is_file() and (root / "images").is_dir():
        return "food101"
    return "folder"
