r"""NUS-WIDE in its official layout (Chua et al., CIVR 2009): Flickr photos with any of 81 concepts as labels.

Papers on hashing use the 21 most frequent concepts and the photos that have one of them. They draw their own queries
and training photos, 100 and 500 for each concept; the splits here are the published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.labels import join_labels
from milvus_fghash.core.text_file import open_text
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts.text_lists import read_lines
from milvus_fghash.datasets.paths import missing_files, relative_path
from milvus_fghash.datasets.read_report import LeftOut, ReadReport
from milvus_fghash.errors import DataError

PHOTO_FOLDERS: Final = ("Flickr", "images", "Images", "")
"""Folders that may hold the photos; the first one that exists does."""
SPLITS: Final = {"train": "TrainImagelist.txt", "test": "TestImagelist.txt"}
FREQUENT_CONCEPTS: Final = (
    "animal", "beach", "buildings", "clouds", "flowers", "grass", "lake", "mountain", "ocean", "person", "plants",
    "reflection", "road", "rocks", "sky", "snow", "sunset", "tree", "vehicle", "water", "window",
)  # fmt: skip
"""The 21 most frequent concepts."""


def read(root: Path, concepts: Sequence[str] | None = None) -> Dataset:
    r"""``ImageList/Imagelist.txt``, ``Groundtruth/AllLabels/Labels_CONCEPT.txt`` and the photos -> dataset.

    A line of the image list is ``FOLDER\PHOTO``; line n of a label file is 1 where photo n has the concept. Ids are the
    paths of the list, with slashes. ``ImageList/TrainImagelist.txt`` and ``TestImagelist.txt`` give the splits;
    ``Groundtruth/TrainTestLabels`` repeats the labels in their order and is not read. Photos without any of the
    concepts, and photos that are missing, as some have vanished from Flickr, are left out and counted.

    Args:
        root: the folder of the data set.
        concepts: the labels; default: those of ``ConceptsList/Concepts81.txt``.

    Raises:
        DataError: when a file is missing, a line is malformed, or the files differ in length; with the line.
    """
    listed = root / "ImageList" / "Imagelist.txt"
    keys = [_key(line, where) for line, where in read_lines(listed)]
    names = sorted(concepts or (line.strip() for line, _ in read_lines(_concept_list(root))))
    labels_of = root / "Groundtruth" / "AllLabels"
    concepts_of: list[list[str]] = [[] for _ in keys]
    for name in names:
        for row in np.flatnonzero(_flags(labels_of / f"Labels_{name}.txt", listed, len(keys))).tolist():
            concepts_of[row].append(name)
    splits, warnings = _splits(root / "ImageList", keys)
    folder = next(name for name in PHOTO_FOLDERS if (root / name).is_dir())
    paths = [f"{folder}/{key}" if folder else key for key in keys]
    gone = {path for path, _ in missing_files(root, ((path, str(listed)) for path in paths))}
    left_out = LeftOut()
    kept: list[int] = []
    for row, path in enumerate(paths):
        if not concepts_of[row]:
            left_out.add("photo without a label", path)
        elif path in gone:
            left_out.add("missing photo", path)
        else:
            kept.append(row)
    return Dataset(
        root,
        tuple(keys[row] for row in kept),
        tuple(paths[row] for row in kept),
        tuple(join_labels(concepts_of[row]) for row in kept),
        tuple(splits[row] for row in kept),
        read_report=ReadReport(f"from the {len(names)} label files of NUS-WIDE", warnings, left_out),
    )


def read_frequent(root: Path) -> Dataset:
    """`read` with the 21 most frequent concepts."""
    return read(root, FREQUENT_CONCEPTS)


def _key(line: str, where: str) -> str:
    return relative_path(line.strip().replace("\\", "/"), where)


def _concept_list(root: Path) -> Path:
    """The list of concepts, in its own folder or, as some copies have it, beside the others."""
    beside = root / "Concepts81.txt"
    return beside if beside.is_file() else root / "ConceptsList" / "Concepts81.txt"


def _flags(path: Path, listed: Path, n_photos: int) -> NDArray[np.bool_]:
    """(n_photos,) the 0 or 1 of each line. Read as a whole: there are 81 files of 269,648 lines."""
    if not path.is_file():
        raise DataError(f"there is no {path}; was the ground truth of NUS-WIDE unpacked completely?")
    with open_text(path, "the labels", DataError) as file:
        words = file.read().split()
    if wrong := next((number for number, word in enumerate(words, start=1) if word not in ("0", "1")), 0):
        raise DataError(f"{path}, line {wrong}: expected 0 or 1, got {words[wrong - 1]!r}")
    if len(words) != n_photos:
        raise DataError(f"{path} has {len(words):,} lines, and {listed} has {n_photos:,}; expected one for each photo")
    flags: NDArray[np.bool_] = np.array(words) == "1"
    return flags


def _splits(lists: Path, keys: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The split of each photo, and a warning where the lists of the splits are missing."""
    if absent := [name for name in SPLITS.values() if not (lists / name).is_file()]:
        return [""] * len(keys), (f"there is no {' and no '.join(absent)} in {lists}, so the photos have no splits",)
    split_of: dict[str, str] = dict.fromkeys(keys, "")
    for split, name in SPLITS.items():
        for line, where in read_lines(lists / name):
            key = _key(line, where)
            if key not in split_of:
                raise DataError(f"{where}: {key} is not in {lists / 'Imagelist.txt'}")
            if split_of[key]:
                raise DataError(f"{where}: {key} is already in the split {split_of[key]!r}; expected it in one list")
            split_of[key] = split
    return [split_of[key] for key in keys], ()
