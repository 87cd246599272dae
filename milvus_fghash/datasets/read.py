"""Data sets on disk -> `Dataset`. One reader for each layout; nothing downstream knows it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from milvus_fghash.core.masking import KNOWN_SECRETS
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts import aircraft, cifar, cub, dogs, flowers, folder, food101, nabirds, vegfru
from milvus_fghash.datasets.selection import DEFAULT_SELECTION, PhotoFilter, Selection
from milvus_fghash.datasets.sources import archives, remote_folder, remote_table
from milvus_fghash.datasets.sources.location import Url, parse_location
from milvus_fghash.datasets.tables import table
from milvus_fghash.errors import ConfigError, DataError, nearest

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetCard",
    "Selection",
    "Url",
    "detect",
    "parse_location",
    "read",
    "read_dataset",
]


PhotoLocation = TypeVar("PhotoLocation", Path, Url)


@dataclass(frozen=True)
class DatasetCard:
    """What a reader reads."""

    title: str
    layout: str
    """What has to lie in the folder (or file) given."""
    source: str
    """Where the data or the layout comes from."""
    read: Callable[[Path, Selection], Dataset]
    marks: frozenset[str] = frozenset()
    """Files and folders that tell `detect` the layout; without any, it never does."""
    read_url: Callable[[Url, Selection], Dataset] | None = None
    """Reads it behind a URL; None: it is read in a folder here only."""


def _listed(read: Callable[[PhotoLocation], Dataset]) -> Callable[[PhotoLocation, Selection], Dataset]:
    """A reader of lists, which say the classes; of a selection only the globs count that were asked for."""

    def read_selected(root: PhotoLocation, selection: Selection) -> Dataset:
        if selection.class_level != "auto":
            raise ConfigError(
                f"the lists in {root} say the classes; a class level is for folders and archives of photos"
            )
        dataset = read(root)
        if not selection.exclude:
            return dataset
        photo_filter = PhotoFilter(selection, system_names=False)
        dataset = dataset.take(
            [row for row, path in enumerate(dataset.paths) if photo_filter.accepts(path, is_photo=True)]
        )
        return replace(dataset, read_report=replace(dataset.read_report, left_out=photo_filter.left_out))

    return read_selected


_CUB_MARKS = frozenset({"images.txt", "train_test_split.txt"})

DATASETS = {
    "cub": DatasetCard(
        "CUB-200-2011 birds",
        "images.txt, image_class_labels.txt, classes.txt, train_test_split.txt, images/CLASS/*.jpg",
        "Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011",
        _listed(cub.read),
        _CUB_MARKS,
    ),
    "nabirds": DatasetCard(
        "NABirds",
        "as cub, and hierarchy.txt",
        "Van Horn et al., Building a Bird Recognition App and Large Scale Dataset With Citizen Scientists, CVPR 2015",
        _listed(nabirds.read),
        _CUB_MARKS | {"hierarchy.txt"},
    ),
    "aircraft": DatasetCard(
        "FGVC-Aircraft variants",
        "data/variants.txt, data/images_variant_trainval.txt, data/images_variant_test.txt, data/images/*.jpg",
        "Maji et al., Fine-Grained Visual Classification of Aircraft, 2013",
        _listed(aircraft.read),
        frozenset({"data/variants.txt", "data/images_variant_trainval.txt"}),
    ),
    "vegfru": DatasetCard(
        "VegFru vegetables and fruits",
        "vegfru_list/vegfru_train.txt, also _val and _test, veg200_images/CLASS/*.jpg, fru92_images/CLASS/*.jpg",
        "Hou et al., VegFru: A Domain-Specific Dataset for Fine-grained Visual Categorization, ICCV 2017",
        _listed(vegfru.read),
        frozenset({"vegfru_list/vegfru_train.txt"}),
    ),
    "food101": DatasetCard(
        "Food-101 dishes",
        "meta/classes.txt, meta/train.txt, meta/test.txt, images/CLASS/ID.jpg",
        "Bossard et al., Food-101: Mining Discriminative Components with Random Forests, ECCV 2014",
        _listed(food101.read),
        frozenset({"meta/train.txt", "images"}),
    ),
    "dogs": DatasetCard(
        "Stanford Dogs",
        "train_list.mat, test_list.mat, Images/CLASS/*.jpg",
        "Khosla et al., Novel Dataset for Fine-Grained Image Categorization: Stanford Dogs, 2011",
        _listed(dogs.read),
        frozenset({"train_list.mat", "test_list.mat"}),
    ),
    "flowers102": DatasetCard(
        "Oxford Flowers-102",
        "imagelabels.mat, setid.mat, jpg/image_*.jpg",
        "Nilsback & Zisserman, Automated Flower Classification over a Large Number of Classes, 2008",
        _listed(flowers.read),
        frozenset({"imagelabels.mat", "setid.mat"}),
    ),
    "cifar10": DatasetCard(
        "CIFAR-10",
        "batches.meta.txt, data_batch_1.bin to _5.bin, test_batch.bin; writes the photos to png/",
        "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        _listed(cifar.read),
        frozenset({"batches.meta.txt", "test_batch.bin"}),
    ),
    "folder": DatasetCard(
        "A folder of photos",
        "CLASS/*.jpg, or train/CLASS/*.jpg and test/ or val/ beside it, or photos without classes; folders may stand "
        "above the classes",
        "your own photos, ImageNet, and whatever torchvision's ImageFolder reads",
        folder.read,
        read_url=remote_folder.read,
    ),
    "archive": DatasetCard(
        "Tars and zips of photos, read where they lie",
        "one .tar or .zip as folder is; or a folder of them, or shard-{000..099}.tar: KEY.jpg, KEY.cls, KEY.json",
        "your own photos, WebDataset, and what img2dataset writes",
        archives.read,
        read_url=archives.read,
    ),
    "table": DatasetCard(
        "A CSV or Parquet file that lists photos",
        "columns path (relative to the file's folder, or a URL), optionally id, label, split, and what else Milvus "
        "should know",
        "your own list",
        _listed(table.read),
        read_url=_listed(remote_table.read),
    ),
}


def read(layout: str, root: Path | Url, selection: Selection = DEFAULT_SELECTION) -> Dataset:
    """List the photos below ``root`` (for `table` and `archive`: in the file ``root``).

    Args:
        selection: what is left out, and where the classes are read from. Lists say their photos and classes themselves:
            they take no class level.

    Raises:
        ConfigError: for a class level where lists say the classes.
        DataError: when there is no such data set, or ``root`` does not hold its layout.
        MissingExtra: for a URL or a Parquet file, without the packages it needs.
    """
    if layout not in DATASETS:
        raise DataError(f"no data set named {layout!r}. {nearest(layout, DATASETS)}")
    card = DATASETS[layout]
    if isinstance(root, Path):
        _check_reachable(root)
        dataset = replace(card.read(root, selection), location=root)
        if dataset.read_report.classes:
            return dataset
        return replace(dataset, read_report=replace(dataset.read_report, classes=f"as the lists of {layout} say"))
    KNOWN_SECRETS.add_url(root.full)
    if card.read_url is None:
        able = ", ".join(name for name, card in DATASETS.items() if card.read_url)
        raise DataError(f"the layout {layout} is read in a folder here only; behind a URL: {able}")
    return replace(card.read_url(root, selection), location=root)


def _check_reachable(root: Path) -> None:
    """Reject what cannot even be asked whether it is there: no file can be called that, or a folder above is closed.

    What is not there is for the readers to say, which know what they expected.

    Raises:
        DataError: says why.
    """
    try:
        os.stat(root)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        if "{" not in str(root):  # braces stand for names that are shorter
            raise DataError(f"cannot read {root}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"cannot read {str(root)!r}: {error}") from None


def detect(root: Path | Url) -> str:
    """The data set whose layout ``root`` has; `folder` when it looks like no other.

    A layout that asks for all that another does and more, as NABirds does of CUB's, wins over it.

    Raises:
        DataError: when ``root`` looks like several, or cannot be looked at.
    """
    if isinstance(root, Path):
        _check_reachable(root)
    is_folder = isinstance(root, Path) and root.is_dir()
    if root.suffix.lower() in table.SUFFIXES and not is_folder:
        return "table"
    if archives.is_archive(root) and not is_folder:
        return "archive"
    if isinstance(root, Url):
        return "folder"
    fitting = {
        name: card.marks
        for name, card in DATASETS.items()
        if card.marks and all((root / mark).exists() for mark in card.marks)
    }
    names = [name for name, marks in fitting.items() if not any(marks < more for more in fitting.values())]
    if len(names) > 1:
        raise DataError(f"{root} looks like {' and like '.join(names)}; name the data set that is meant")
    if not names and archives.holds_only_archives(root):
        return "archive"
    return names[0] if names else "folder"


def read_dataset(
    photos: str | Path | Url,
    layout: str | None = None,
    *,
    split: str | None = None,
    selection: Selection = DEFAULT_SELECTION,
) -> Dataset:
    """List photos: a folder, an archive, a CSV or Parquet list, a URL of one of these, or the layout of a data set.

    Args:
        photos: where they are.
        dataset: the layout, a key of `DATASETS`. Default: what ``photos`` looks like.
        split: take this part only, such as ``train``, or several parts between commas. Default: all.
        selection: what is left out, whether links are followed, and which folders are the classes.

    Returns:
        Ids, paths, labels and splits of the photos; none of them is opened.

    Raises:
        ConfigError: for a class level where lists say the classes.
        DataError: when there are no photos, or the layout or the split is not there.
        MissingExtra: for a URL or a Parquet file, without the packages it needs.
    """
    if not isinstance(photos, str | Path | Url):
        raise DataError(f"photos must be a path or a URL, got {type(photos).__name__}")
    place = parse_location(photos)
    if isinstance(place, Path) and "{" not in place.name:
        _check_reachable(place)
        if not place.exists():
            raise DataError(f"there is no file or folder {place}")
    dataset = read(layout or detect(place), place, selection)
    return dataset.split(split) if split else dataset
