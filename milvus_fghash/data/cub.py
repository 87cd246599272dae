"""CUB-200-2011 in its official layout (Wah et al., 2011); http://www.vision.caltech.edu/datasets/cub_200_2011/."""

from __future__ import annotations

from pathlib import Path

from milvus_fghash.data.lines import read_pairs
from milvus_fghash.data.listing import Listing
from milvus_fghash.data.paths import check_present, inside
from milvus_fghash.errors import DataError

_SPLITS = {"1": "train", "0": "test"}


def read(root: Path) -> Listing:
    """``images.txt``, ``image_class_labels.txt``, ``classes.txt`` and ``train_test_split.txt`` -> listing.

    Ids are the numbers of ``images.txt``, labels the names of ``classes.txt``.

    Raises:
        DataError: when a file is missing, a line is malformed, or the files do not agree; with the line.
    """
    images = read_pairs(root / "images.txt")
    class_names = read_pairs(root / "classes.txt")
    class_of = read_pairs(root / "image_class_labels.txt")
    split_of = read_pairs(root / "train_test_split.txt")
    paths, labels, splits = [], [], []
    for key, (path, where) in images.items():
        paths.append("images/" + inside(path, where))
        number, number_where = _of(class_of, key, where, "image_class_labels.txt")
        labels.append(_of(class_names, number, number_where, "classes.txt")[0])
        flag, flag_where = _of(split_of, key, where, "train_test_split.txt")
        if flag not in _SPLITS:
            raise DataError(f"{flag_where}: expected 1 (train) or 0 (test), got {flag!r}")
        splits.append(_SPLITS[flag])
    check_present(root, ((path, where) for path, (_, where) in zip(paths, images.values(), strict=True)))
    return Listing(root, tuple(images), tuple(paths), tuple(labels), tuple(splits))


def _of(pairs: dict[str, tuple[str, str]], key: str, where: str, file: str) -> tuple[str, str]:
    try:
        return pairs[key]
    except KeyError:
        raise DataError(f"{where}: {key} has no line in {file}") from None
