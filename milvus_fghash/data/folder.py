"""A folder of photos: class folders, with or without train/ and test/ above them, or photos without classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from milvus_fghash.data.listing import Listing
from milvus_fghash.data.paths import inside
from milvus_fghash.data.places import Url
from milvus_fghash.errors import DataError
from milvus_fghash.images import SUFFIXES

SPLITS = ("train", "test", "val", "valid", "validation")


def read(root: Path) -> Listing:
    """All files below ``root`` with the suffix of an image format, sorted by path.

    When ``root`` holds no folders but `SPLITS`, these are the splits; otherwise all splits are "". The next folder is
    the class, however deep a photo lies in it; a photo in no such folder has the label "". Hidden files and folders
    are ignored, and links to folders are not followed. A file that is no image despite its name is listed too: it is
    refused when it is opened. Ids are the paths.

    Raises:
        DataError: when ``root`` is no folder, holds no photos, or holds both splits and other folders with photos.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder; expected a folder of photos")
    paths = sorted(_photos(root))
    labels, splits = labels_and_splits(root, paths)
    return Listing(root, tuple(paths), tuple(paths), labels, splits, walked=True)


def labels_and_splits(root: Path | Url, paths: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class and split of each photo by the folders above it, as `read` says.

    Raises:
        DataError: when there are splits and other folders beside each other.
    """
    tops = {path.partition("/")[0] for path in paths if "/" in path}
    split_tops, other_tops = tops.intersection(SPLITS), sorted(tops.difference(SPLITS))
    if len(split_tops) > 1 and other_tops:
        raise DataError(
            f"{root} holds the splits {', '.join(sorted(split_tops))} and beside them {', '.join(other_tops[:3])}; "
            "expected splits alone or class folders alone"
        )
    depth = 1 if split_tops and not other_tops else 0
    labels, splits = [], []
    for path in paths:
        *folders, _ = path.split("/")
        splits.append(folders[0] if depth and folders else "")
        labels.append(folders[depth] if len(folders) > depth else "")
    return tuple(labels), tuple(splits)


def _photos(root: Path) -> list[str]:
    def refuse(error: OSError) -> NoReturn:
        raise DataError(f"cannot list the folder {error.filename}: {error.strerror}") from None

    found = []
    for folder, subfolders, names in os.walk(root, onerror=refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        above = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                found.append(inside(f"{above}/{name}", str(root)))
    return found
