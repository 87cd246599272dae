"""Food-101 in its official layout (Bossard et al., ECCV 2014)."""

from __future__ import annotations

from pathlib import Path

from milvus_fghash.data.lines import read_lines
from milvus_fghash.data.listing import Listing
from milvus_fghash.data.paths import check_present, inside
from milvus_fghash.errors import DataError


def read(root: Path) -> Listing:
    """``meta/classes.txt``, ``meta/train.txt`` and ``meta/test.txt`` -> listing, the training photos first.

    Ids are the lines of the lists (``apple_pie/1005649``), labels the names of ``classes.txt``. ``labels.txt``, the
    same names for people to read, is not needed.

    Raises:
        DataError: when a file is missing or a line is malformed; with the line.
    """
    meta = root / "meta"
    classes = {line.strip() for line, _ in read_lines(meta / "classes.txt")}
    ids, paths, labels, splits, places = [], [], [], [], []
    for split in ("train", "test"):
        for line, where in read_lines(meta / f"{split}.txt"):
            key = inside(line.strip(), where)
            label, slash, _ = key.partition("/")
            if not slash:
                raise DataError(f"{where}: expected CLASS/ID, got {line!r}")
            if label not in classes:
                raise DataError(f"{where}: class {label!r} does not stand in {meta / 'classes.txt'}")
            ids.append(key)
            paths.append(f"images/{key}.jpg")
            labels.append(label)
            splits.append(split)
            places.append(where)
    check_present(root, zip(paths, places, strict=True))
    return Listing(root, tuple(ids), tuple(paths), tuple(labels), tuple(splits))
