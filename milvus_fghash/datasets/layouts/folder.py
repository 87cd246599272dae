"""A folder of photos: class folders, with or without train/ and test/ above them, or photos without classes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from milvus_fghash.core.image_formats import SUFFIXES
from milvus_fghash.datasets.classes import read_classes
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.read_report import LINKED, ReadReport
from milvus_fghash.datasets.selection import DEFAULT_SELECTION, PhotoFilter, Selection
from milvus_fghash.errors import DataError

Chain = tuple[tuple[int, int], "Chain"] | None
"""Device and inode of a folder, and those of the folders above it."""


def read(root: Path, selection: Selection = DEFAULT_SELECTION) -> Dataset:
    """All files below ``root`` with the suffix of an image format, sorted by path.

    `read_classes` determines class and split. Hidden names, those of `SYSTEM_NAMES` and of the selection are left out,
    and links to folders unless they are followed; `Dataset.read_report` counts them. A file that is no image despite
    its name is in the dataset, and so is a folder whose path is too long to be listed: both are rejected when they are
    opened. So are files with invalid names, unless `Dataset.check_paths` rejects them first. Ids are the paths.

    Raises:
        DataError: when ``root`` is not a folder, holds no photos, or holds both splits and other folders with photos.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected a folder of photos")
    photo_filter = PhotoFilter(selection)
    paths = sorted(files_below(root, photo_filter, tuple(SUFFIXES)))
    classes = read_classes(root, paths, selection.class_level)
    read_report = ReadReport(classes.source, classes.warnings, photo_filter.left_out)
    return Dataset(
        root, tuple(paths), tuple(paths), classes.labels, classes.splits, scanned=True, read_report=read_report
    )


def files_below(root: Path, photo_filter: PhotoFilter, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Paths below ``root`` that end in one of the suffixes and pass the filter, which counts the others.

    Not recursive: folders may be nested deeper than Python recurses.

    Raises:
        DataError: when a folder cannot be listed.
    """
    follow = photo_filter.selection.follow_links
    waiting: list[tuple[str, Chain]] = [("", _chain(root, None) if follow else None)]
    while waiting:
        above, chain = waiting.pop()
        try:
            with os.scandir(root / above) as entries:
                for entry in entries:
                    path = f"{above}/{entry.name}" if above else entry.name
                    is_link = entry.is_symlink()
                    if entry.is_dir(follow_symlinks=False) or (is_link and _is_folder(entry)):
                        if not photo_filter.enters(path):
                            continue
                        if is_link and not follow:
                            photo_filter.left_out.add(LINKED, path)
                        elif not follow:
                            waiting.append((path, None))
                        elif below := _chain(root / path, chain):
                            waiting.append((path, below))
                        else:
                            photo_filter.left_out.add("circular link", path)
                    elif is_link and not os.path.splitext(entry.name)[1] and not os.path.exists(root / path):
                        photo_filter.left_out.add("broken link", path)
                    elif photo_filter.accepts(path, is_photo=entry.name.lower().endswith(suffixes)):
                        yield path
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG or not above:
                raise DataError(f"cannot list the folder {root / above}: {error.strerror}") from None
            yield above  # nothing below it can be opened; the other photos are read all the same


def _chain(folder: Path, above: Chain) -> Chain:
    """A folder and those above it; None when it is itself one of them."""
    try:
        status = os.stat(folder)
    except OSError:  # reported when the folder is listed
        return (0, 0), above
    key, one = (status.st_dev, status.st_ino), above
    while one:
        if one[0] == key:
            return None
        one = one[1]
    return key, above


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether a link leads to a folder."""
    try:
        return entry.is_dir()
    except OSError:  # circular
        return False
