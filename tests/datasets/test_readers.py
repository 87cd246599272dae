"""Every layout on disk -> the same kind of listing, and what is said when the layout is not there."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from milvus_fghash.core.images import open_rgb
from milvus_fghash.datasets.read import detect, read
from milvus_fghash.errors import DataError, ImageRejected
from tests.helpers.layouts import CUB, FOOD, fault, plant


def test_cub(tmp_path: Path) -> None:
    dataset = read("cub", plant(tmp_path, CUB))
    assert dataset.ids == ("1", "2", "7")
    assert dataset.paths == ("images/001.Wren/a.jpg", "images/001.Wren/b c.jpg", "images/002.Jay/a.jpg")
    assert dataset.labels == ("001.Wren", "001.Wren", "002.Jay")
    assert dataset.splits == ("train", "test", "train")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("images", "1 001.Wren/a.jpg\n2\n", "images.txt, line 2: expected"),
        ("images", "1 001.Wren/a.jpg\n1 002.Jay/a.jpg\n", "images.txt, line 2: 1 occurs a second time"),
        ("images", "1 ../secret.jpg\n", "images.txt, line 1: the path '../secret.jpg'"),
        ("images", "1 001.Wren/none.jpg\n", "images.txt, line 1: there is no file"),
        ("images", "1 001.Wrong/a.jpg\n", "images.txt, line 1: there is no file"),
        ("images", "9 001.Wren/a.jpg\n", "images.txt, line 1: 9 has no line in image_class_labels.txt"),
        ("image_class_labels", "1 1\n2 5\n7 1\n", "image_class_labels.txt, line 2: 5 has no line in classes.txt"),
        ("train_test_split", "1 1\n2 0\n7 yes\n", "train_test_split.txt, line 3: expected 1 (train) or 0 (test)"),
        ("train_test_split", "1 1\n2 0\n", "images.txt, line 3: 7 has no line in train_test_split.txt"),
        ("images", "\n", "no photos found"),
        ("classes", "1 Wren\n2 Wren\n", "images.txt, line 3: class 'Wren' has the number 2, but 1 above"),
    ],
)
def test_cub_faults_name_file_and_line(file: str, text: str, message: str, tmp_path: Path) -> None:
    assert message in fault("cub", plant(tmp_path, CUB, **{file: text}))


@pytest.mark.parametrize("file", ["images.txt", "image_class_labels.txt", "classes.txt", "train_test_split.txt"])
def test_cub_without_one_of_its_files(file: str, tmp_path: Path) -> None:
    (plant(tmp_path, CUB) / file).unlink()
    assert file in fault("cub", tmp_path)


def test_food101(tmp_path: Path) -> None:
    dataset = read("food101", plant(tmp_path, FOOD))
    assert dataset.ids == ("pie/1", "soup/2", "pie/3")
    assert dataset.paths == ("images/pie/1.jpg", "images/soup/2.jpg", "images/pie/3.jpg")
    assert dataset.labels == ("pie", "soup", "pie")
    assert dataset.splits == ("train", "train", "test")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("train", "pie/1\nsoup\n", "train.txt, line 2: expected CLASS/ID"),
        ("train", "pie/1\n\ncake/1\n", "train.txt, line 3: class 'cake'"),
        ("test", "pie/9\n", "test.txt, line 1: there is no file"),
        ("test", "/pie/1\n", "test.txt, line 1: the path '/pie/1'"),
        ("test", "pie/1\n", "test.txt, line 1: id 'pie/1' occurs twice, first in "),
    ],
)
def test_food101_faults_name_file_and_line(file: str, text: str, message: str, tmp_path: Path) -> None:
    assert message in fault("food101", plant(tmp_path, FOOD, **{file: text}))


def test_lists_that_are_no_text(tmp_path: Path) -> None:
    plant(tmp_path, FOOD)
    (tmp_path / "meta/train.txt").write_bytes(b"pie/caf\xe9\n")
    assert "not UTF-8 text" in fault("food101", tmp_path)
    (tmp_path / "meta/train.txt").unlink()
    (tmp_path / "meta/train.txt").mkdir()
    assert "cannot read" in fault("food101", tmp_path)


def test_class_folders(tmp_path: Path) -> None:
    files = [
        "jay/b.png",
        "jay/deep/down/c.JPG",
        "wren/a.jpeg",
        "wren/notes.txt",
        ".cache/x.jpg",
        "jay/.x.jpg",
        "d.webp",
    ]
    dataset = read("folder", plant(tmp_path, dict.fromkeys(files, "")))
    assert dataset.paths == dataset.ids == ("d.webp", "jay/b.png", "jay/deep/down/c.JPG", "wren/a.jpeg")
    assert dataset.labels == ("", "jay", "jay", "wren")
    assert set(dataset.splits) == {""}


def test_split_folders(tmp_path: Path) -> None:
    files = ["train/jay/a.jpg", "train/wren/b.jpg", "test/jay/deep/a.jpg", "val/jay/a.jpg", "test/c.jpg", "README.md"]
    dataset = read("folder", plant(tmp_path, dict.fromkeys(files, "")))
    rows = dict(zip(dataset.paths, zip(dataset.splits, dataset.labels, strict=True), strict=True))
    assert rows == {
        "train/jay/a.jpg": ("train", "jay"),
        "train/wren/b.jpg": ("train", "wren"),
        "test/jay/deep/a.jpg": ("test", "jay"),
        "test/c.jpg": ("test", ""),
        "val/jay/a.jpg": ("val", "jay"),
    }


def test_imagenet_as_torchvision_lays_it_out(tmp_path: Path) -> None:
    files = ["train/n01440764/n01440764_18.JPEG", "val/n01440764/ILSVRC2012_val_00000293.JPEG", "meta.bin"]
    dataset = read("folder", plant(tmp_path, dict.fromkeys(files, "")))
    assert (dataset.labels, dataset.splits) == (("n01440764", "n01440764"), ("train", "val"))


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_other_names_of_the_validation_split(name: str, tmp_path: Path) -> None:
    dataset = read("folder", plant(tmp_path, dict.fromkeys(["train/jay/a.jpg", f"{name}/jay/b.jpg"], "")))
    assert (dataset.labels, dataset.splits) == (("jay", "jay"), ("train", name))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    dataset = read("folder", plant(tmp_path, dict.fromkeys(["bus/a.jpg", "train/b.jpg"], "")))
    assert dataset.labels == ("bus", "train")


def test_splits_beside_other_folders_are_rejected(tmp_path: Path) -> None:
    plant(tmp_path, dict.fromkeys(["train/jay/a.jpg", "test/jay/a.jpg", "extra/jay/a.jpg"], ""))
    assert "next to extra" in fault("folder", tmp_path)


def test_flat_folder_of_one_photo(tmp_path: Path) -> None:
    dataset = read("folder", plant(tmp_path, {"a.jpg": "a text that the decoder will reject"}))
    assert (dataset.ids, dataset.labels, dataset.splits) == (("a.jpg",), ("",), ("",))


def test_folders_without_photos(tmp_path: Path) -> None:
    assert "no photos found" in fault("folder", tmp_path)
    (tmp_path / "a.txt").touch()
    assert "no photos found" in fault("folder", tmp_path)
    assert "is not a folder" in fault("folder", tmp_path / "none")
    assert "is not a folder" in fault("folder", tmp_path / "a.txt")


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    plant(tmp_path, {"jay/a.jpg": ""})
    (tmp_path / "jay" / "loop.jpg").symlink_to(tmp_path)
    (tmp_path / "jay" / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "jay" / "round.jpg").symlink_to("round.jpg")
    assert read("folder", tmp_path).paths == ("jay/a.jpg", "jay/b.jpg", "jay/round.jpg")


@pytest.mark.parametrize(("name", "message"), [(b"caf\xe9.jpg", "rename"), (b"a\\..\\b.jpg", "must be relative")])
def test_a_name_that_cannot_be_kept_is_listed_and_can_be_asked_for(tmp_path: Path, name: bytes, message: str) -> None:
    (tmp_path / os.fsdecode(name)).touch()
    dataset = read("folder", tmp_path)
    assert dataset.paths == (os.fsdecode(name),)
    with pytest.raises(DataError, match=message) as caught:
        dataset.check_paths()
    assert str(caught.value).isascii()


def nested(root: Path, part: str, levels: int) -> None:
    """A photo below so many folders, made from where each lies, for the whole path may be too long."""
    handle = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(part, dir_fd=handle)
        below = os.open(part, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(os.open("a.jpg", os.O_CREAT, dir_fd=handle))
    os.close(handle)


@pytest.mark.parametrize(("part", "levels", "found"), [("d", 1200, "d/" * 1200 + "a.jpg"), ("x" * 250, 20, "x")])
def test_folders_deep_in_each_other(tmp_path: Path, part: str, levels: int, found: str) -> None:
    """One photo lies deeper than Python recurses; the other below a folder that no path leads to, which is listed."""
    nested(tmp_path, part, levels)
    (tmp_path / "b.jpg").touch()
    try:
        dataset = read("folder", tmp_path)
        assert dataset.paths[0] == "b.jpg"
        assert dataset.paths[1].startswith(found)
        with pytest.raises(ImageRejected):
            open_rgb(dataset.file(1))
    finally:
        subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)  # too deep for what pytest cleans up with


def test_unknown_data_set(tmp_path: Path) -> None:
    assert "Did you mean food101?" in fault("food-101", tmp_path)


@pytest.mark.photos
def test_real_birds(photos: Path) -> None:
    dataset = read("cub", photos / "CUB_100")
    assert Counter(dataset.splits) == {"train": 2999, "test": 2903}
    assert len(dataset.classes) == 100
    assert dataset.file(0).is_file()
    assert detect(photos / "CUB_100") == "cub"


@pytest.mark.photos
def test_real_dishes(photos: Path) -> None:
    dataset = read("food101", photos / "food-10")
    assert Counter(dataset.splits) == {"train": 3750, "test": 1250}
    assert Counter(dataset.labels)["apple_pie"] == 500
    assert len(dataset.classes) == 10
    assert detect(photos / "food-10") == "food101"


@pytest.mark.photos
def test_real_birds_as_class_folders(photos: Path) -> None:
    as_folder, as_cub = read("folder", photos / "CUB_100" / "images"), read("cub", photos / "CUB_100")
    labels = dict(zip((f"images/{path}" for path in as_folder.paths), as_folder.labels, strict=True))
    assert labels == dict(zip(as_cub.paths, as_cub.labels, strict=True))
