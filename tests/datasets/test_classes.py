"""Which folder above a photo is its class, and which its split."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.datasets.classes import read_classes
from milvus_fghash.datasets.dataset import summary
from milvus_fghash.datasets.read import Selection, read
from milvus_fghash.datasets.selection import ClassLevel, class_level
from milvus_fghash.errors import ConfigError, DataError
from tests.helpers.layouts import plant

ROOT = Path("photos")
FRUIT = ("train/Fruit/Apple/1.jpg", "train/Fruit/Pear/2.jpg", "train/Root/Beet/3.jpg", "test/Root/Beet/4.jpg")
MIXED = ("a/1.jpg", "a/x/2.jpg", "b/y/z/3.jpg", "4.jpg")


@pytest.mark.parametrize(
    ("paths", "level", "labels", "source"),
    [
        (FRUIT, "auto", ("Apple", "Pear", "Beet", "Beet"), "from the innermost folder, at level 2"),
        (FRUIT, "leaf", ("Apple", "Pear", "Beet", "Beet"), "from the innermost folder, at level 2"),
        (FRUIT, "top", ("Fruit", "Fruit", "Root", "Root"), "from the top folder"),
        (FRUIT, 2, ("Apple", "Pear", "Beet", "Beet"), "from the folder at level 2"),
        (MIXED, "auto", ("a", "a", "b", ""), "from the top folder"),
        (MIXED, "leaf", ("a", "x", "z", ""), "from the innermost folder"),
        (MIXED, 3, ("", "", "z", ""), "from the folder at level 3"),
        (("set/a/1.jpg", "set/a/x/2.jpg", "set/b/3.jpg"), "auto", ("a", "a", "b"), "from the folder at level 2"),
        (("set/a/1.jpg", "set/a/x/2.jpg", "set/b/3.jpg"), "top", ("set",) * 3, "from the top folder"),
        (("a/1.jpg", "a/x/2.jpg"), "auto", ("a", "a"), "from the top folder"),
        (("a/1.jpg", "b/2.jpg"), "leaf", ("a", "b"), "from the folder of each photo"),
        (("1.jpg", "2.jpg"), "top", ("", ""), "no photo lies in a class folder"),
    ],
)
def test_the_class_is_the_folder_that_was_asked_for(
    paths: tuple[str, ...], level: ClassLevel, labels: tuple[str, ...], source: str
) -> None:
    found = read_classes(ROOT, paths, level)
    assert (found.labels, found.source) == (labels, source)


def test_levels_that_are_mixed_and_names_that_come_twice_are_doubted_unless_a_level_was_asked_for() -> None:
    (mixed,) = read_classes(ROOT, MIXED).warnings
    assert mixed.startswith("photos lie 1 to 3 folders deep, so folder 1 from the top is the class")
    years = ("2023/robin/1.jpg", "2024/robin/2.jpg", "2024/jay/3.jpg")
    (twice,) = read_classes(ROOT, years).warnings
    assert twice.startswith("1 innermost folder shares its name with other folders (2023/robin and 2024/robin)")
    assert read_classes(ROOT, FRUIT).warnings == ()  # one class in two splits is no doubt
    for level in ("top", "leaf", 1):
        assert read_classes(ROOT, MIXED, class_level(str(level))).warnings == ()
        assert read_classes(ROOT, years, class_level(str(level))).warnings == ()


@pytest.mark.parametrize(
    ("paths", "splits", "labels"),
    [
        (("data/train/a/1.jpg", "data/test/b/2.jpg"), ("train", "test"), ("a", "b")),
        (("x/y/train/a/1.jpg", "x/y/val/b/2.jpg"), ("train", "val"), ("a", "b")),
        (("Train/a/1.jpg", "TEST/b/2.jpg"), ("train", "test"), ("a", "b")),
        (("bus/train/1.jpg",), ("",), ("train",)),  # no classes below: no splits
        (("a/train/x/1.jpg", "b/train/x/2.jpg"), ("", ""), ("x", "x")),
    ],
)
def test_splits_below_folders_that_all_photos_share(
    paths: tuple[str, ...], splits: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    found = read_classes(ROOT, paths)
    assert (found.splits, found.labels) == (splits, labels)


def test_levels_that_cannot_be() -> None:
    for text in ("0", "bottom", "-1", "1.5", ""):
        with pytest.raises(ConfigError, match="must be auto, top, leaf, or a number from 1"):
            Selection(class_level(text))
    with pytest.raises(DataError, match="no photo in photos lies 3 class folders deep, the deepest 2"):
        read_classes(ROOT, FRUIT, 3)


def test_lists_say_the_classes_themselves(tmp_path: Path) -> None:
    plant(tmp_path, {"a.csv": "path,label\nx/1.jpg,jay\nx/2.jpg,\n", "b.csv": "path,class\nx/1.jpg,jay\n"})
    labelled, other = (read("table", tmp_path / name) for name in ("a.csv", "b.csv"))
    assert summary(labelled).endswith("; 1 class (from the column 'label'), 1 photo without; no splits")
    assert f"no classes ({tmp_path}/b.csv has no column 'label', only 'path', 'class')" in summary(other)
    with pytest.raises(ConfigError, match=r"the lists in .*a\.csv name the classes"):
        read("table", tmp_path / "a.csv", Selection("leaf"))
    assert read("table", tmp_path / "a.csv", Selection(exclude=("2.*",))).paths == ("x/1.jpg",)
