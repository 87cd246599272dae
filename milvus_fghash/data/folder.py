"""A folder of photos: class folders, with or without train/ and test/ above them, or photos without classes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from milvus_fghash.data.listing import Listing
from milvus_fghash.data.places import Url
from milvus_fghash.errors import DataError
from milvus_fghash.image_formats import SUFFIXES

SPLITS = ("train", "test", "val", "valid", "validation")


def read(root: Path) -> Listing:
    """All files below ``root`` with the suffix of an image format, sorted by path.

    When ``root`` holds no folders but `SPLITS`, these are the splits; otherwise all splits are "". The next folder is
    the class, however deep a photo lies in it; a photo in no such folder has the label "". Hidden files and folders
    are ignored, and links to folders are not followed. A file that is no image despite its name is listed too, and a
    folder whose path is too long to be listed: they are refused when they are opened. So are files whose names cannot
    stand in a listing, where nobody asks for `Listing.check_paths` before. Ids are the paths.

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


def _photos(root: Path) -> Iterator[str]:
    """Paths below ``root``. Folders wait in a list: they may lie deeper in each other than Python recurses."""
    waiting = [""]
    while waiting:
        above = waiting.pop()
        try:
            with os.scandir(root / above) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = f"{above}/{entry.name}" if above else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and not _is_folder(entry):
                        yield path
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG or not above:
                raise DataError(f"cannot list the folder {root / above}: {error.strerror}") from None
            yield above  # nothing below it can be opened, and that must not stop the others


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether a link leads to a folder."""
    try:
        return entry.is_dir()
    except OSError:  # in a circle
        return False
