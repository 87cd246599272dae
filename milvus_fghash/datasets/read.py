"""`read_dataset`, and the table of layouts with the reader of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from milvus_fghash.core.masking import KNOWN_SECRETS
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts import (
    aircraft,
    cifar,
    cub,
    dogs,
    flowers,
    folder,
    food101,
    nabirds,
    nus_wide,
    vegfru,
)
from milvus_fghash.datasets.selection import DEFAULT_SELECTION, PhotoFilter, Selection
from milvus_fghash.datasets.sources import archives, remote_folder
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


Root = TypeVar("Root", Path, Url)


@dataclass(frozen=True)
class DatasetCard:
    """A layout and its reader.

    Attributes:
        title: name of the data set or of the layout.
        layout: the files that the folder must hold.
        source: who published the data set or the layout.
        read: reads a local folder or file.
        marks: files and folders by which `detect` recognises the layout; empty where it does not.
        read_url: reads a URL; None for layouts that are read from local folders only.
    """

    title: str
    layout: str
    source: str
    read: Callable[[Path, Selection], Dataset]
    marks: frozenset[str] = frozenset()
    read_url: Callable[[Url, Selection], Dataset] | None = None


def _list_reader(read: Callable[[Root], Dataset]) -> Callable[[Root, Selection], Dataset]:
    """A reader of lists, which name the classes themselves: of a selection, only `exclude` applies."""

    def read_selected(root: Root, selection: Selection) -> Dataset:
        if selection.class_level != "auto":
            raise ConfigError(
                f"the lists in {root} name the classes; a class level applies to folders and archives of photos",
                setting="class_level",
            )
        dataset = read(root)
        if not selection.exclude:
            return dataset
        photo_filter = PhotoFilter(selection, system_names=False, left_out=dataset.read_report.left_out)
        dataset = dataset.take(
            [row for row, path in enumerate(dataset.paths) if photo_filter.accepts(path, is_photo=True)]
        )
        return replace(dataset, read_report=replace(dataset.read_report, left_out=photo_filter.left_out))

    return read_selected


_CUB_MARKS = frozenset({"images.txt", "train_test_split.txt"})

DATASETS: Final[dict[str, DatasetCard]] = {
    "cub": DatasetCard(
        "CUB-200-2011 birds",
        "images.txt, image_class_labels.txt, classes.txt, train_test_split.txt, images/CLASS/*.jpg",
        "Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011",
        _list_reader(cub.read),
        _CUB_MARKS,
    ),
    "nabirds": DatasetCard(
        "NABirds",
        "as cub, and hierarchy.txt",
        "Van Horn et al., Building a Bird Recognition App and Large Scale Dataset With Citizen Scientists, CVPR 2015",
        _list_reader(nabirds.read),
        _CUB_MARKS | {"hierarchy.txt"},
    ),
    "aircraft": DatasetCard(
        "FGVC-Aircraft variants",
        "data/variants.txt, data/images_variant_trainval.txt, data/images_variant_test.txt, data/images/*.jpg",
        "Maji et al., Fine-Grained Visual Classification of Aircraft, 2013",
        _list_reader(aircraft.read),
        frozenset({"data/variants.txt", "data/images_variant_trainval.txt"}),
    ),
    "vegfru": DatasetCard(
        "VegFru vegetables and fruits",
        "vegfru_list/vegfru_train.txt, also _val and _test, veg200_images/CLASS/*.jpg, fru92_images/CLASS/*.jpg",
        "Hou et al., VegFru: A Domain-Specific Dataset for Fine-grained Visual Categorization, ICCV 2017",
        _list_reader(vegfru.read),
        frozenset({"vegfru_list/vegfru_train.txt"}),
    ),
    "food101": DatasetCard(
        "Food-101 dishes",
        "meta/classes.txt, meta/train.txt, meta/test.txt, images/CLASS/ID.jpg",
        "Bossard et al., Food-101: Mining Discriminative Components with Random Forests, ECCV 2014",
        _list_reader(food101.read),
        frozenset({"meta/train.txt", "images"}),
    ),
    "dogs": DatasetCard(
        "Stanford Dogs",
        "train_list.mat, test_list.mat, Images/CLASS/*.jpg",
        "Khosla et al., Novel Dataset for Fine-Grained Image Categorization: Stanford Dogs, 2011",
        _list_reader(dogs.read),
        frozenset({"train_list.mat", "test_list.mat"}),
    ),
    "flowers102": DatasetCard(
        "Oxford Flowers-102",
        "imagelabels.mat, setid.mat, jpg/image_*.jpg",
        "Nilsback & Zisserman, Automated Flower Classification over a Large Number of Classes, 2008",
        _list_reader(flowers.read),
        frozenset({"imagelabels.mat", "setid.mat"}),
    ),
    "cifar10": DatasetCard(
        "CIFAR-10",
        "batches.meta.txt, data_batch_1.bin to _5.bin, test_batch.bin; writes the photos to png/",
        "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        _list_reader(cifar.read),
        frozenset({"batches.meta.txt", "test_batch.bin"}),
    ),
    "nus-wide": DatasetCard(
        "NUS-WIDE, several labels for each photo",
        "ImageList/Imagelist.txt, also Train- and TestImagelist.txt, Groundtruth/AllLabels/Labels_CONCEPT.txt, "
        "ConceptsList/Concepts81.txt, Flickr/FOLDER/*.jpg",
        "Chua et al., NUS-WIDE: A Real-World Web Image Database from National University of Singapore, CIVR 2009",
        _list_reader(nus_wide.read),
        frozenset({"ImageList/Imagelist.txt", "Groundtruth/AllLabels"}),
    ),
    "nus-wide-21": DatasetCard(
        "NUS-WIDE with its 21 most frequent concepts, as papers on hashing use it",
        "as nus-wide; not detected, choose it by name",
        "as nus-wide",
        _list_reader(nus_wide.read_frequent),
    ),
    "folder": DatasetCard(
        "A folder of photos",
        "CLASS/*.jpg, or train/CLASS/*.jpg with test/ or val/, or photos without classes; further folders may lie "
        "above the class folders",
        "your own photos, ImageNet, and everything that torchvision's ImageFolder reads",
        folder.read,
        read_url=remote_folder.read,
    ),
    "archive": DatasetCard(
        "Tar and zip archives of photos, read without unpacking",
        "one .tar or .zip with the layout folder; or a folder of archives, or shard-{000..099}.tar: KEY.jpg, KEY.cls, "
        "KEY.json",
        "your own photos, WebDataset, and the output of img2dataset",
        archives.read,
        read_url=archives.read,
    ),
    "table": DatasetCard(
        "A CSV or Parquet file that lists photos",
        "columns path (relative to the file's folder, or a URL), optionally id, label, split, and further columns for "
        "Milvus; labels in place of label for photos with several, as sky|water or lists in Parquet",
        "your own list",
        _list_reader(table.read),
        read_url=_list_reader(table.read_url),
    ),
}
"""Layout name -> its card. The keys are what `read_dataset` takes as ``layout``."""


def read(layout: str, root: Path | Url, selection: Selection = DEFAULT_SELECTION) -> Dataset:
    """List the photos in ``root``, a folder, file or URL with this layout; raises as `read_dataset`."""
    if layout not in DATASETS:
        raise DataError(f"there is no layout {layout!r}. {nearest(layout, DATASETS)}", setting="layout")
    card = DATASETS[layout]
    if isinstance(root, Path):
        _check_reachable(root)
        dataset = replace(card.read(root, selection), location=root)
        if dataset.read_report.classes:
            return dataset
        return replace(dataset, read_report=replace(dataset.read_report, classes=f"from the lists of {layout}"))
    KNOWN_SECRETS.add_url(root.full)
    if card.read_url is None:
        able = ", ".join(name for name, card in DATASETS.items() if card.read_url)
        raise DataError(f"the layout {layout} is read from a local folder only; from a URL: {able}", setting="layout")
    return replace(card.read_url(root, selection), location=root)


def _check_reachable(root: Path) -> None:
    """Reject a path that cannot be looked up: an impossible name, or a parent folder without permission.

    A missing path is left to the readers, which know what they expected.
    """
    try:
        os.stat(root)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        if "{" not in str(root):  # braces expand to shorter names
            raise DataError(f"cannot read {root}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"cannot read {str(root)!r}: {error}") from None


def detect(root: Path | Url) -> str:
    """The layout of ``root``; `folder` when no other one matches.

    A layout that needs all files of another and more, as NABirds does of CUB-200-2011, takes precedence.

    Raises:
        DataError: when several layouts match, or ``root`` cannot be accessed.
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
        raise DataError(f"{root} matches the layouts {' and '.join(names)}; choose one of them", setting="layout")
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
    """List the photos of a folder, an archive, a CSV or Parquet list, or a published data set, local or behind a URL.

    Args:
        photos: path or URL.
        layout: a key of `DATASETS`. Default: detected from the files.
        split: only the photos of this split, such as ``"train"``, or of several separated by commas. Default: all.
        selection: which files are left out, whether links are followed, and which folders are the classes.

    Returns:
        Ids, paths, labels and splits of the photos. No photo is opened.

    Raises:
        ConfigError: for a class level where lists name the classes.
        DataError: when there are no photos, the files do not have the layout, or the split does not exist.
        MissingExtra: when a URL or a Parquet file needs a package that is not installed.

    Examples:
        >>> import milvus_fghash as fg
        >>> fg.read_dataset("birds", split="train")  # doctest: +SKIP
        >>> fg.read_dataset("s3://bucket/birds", selection=fg.Selection(class_level="top"))  # doctest: +SKIP
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
