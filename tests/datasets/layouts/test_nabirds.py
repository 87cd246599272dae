"""NABirds: CUB's files with UUIDs for ids and a tree of classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.datasets.read import read
from tests.helpers.layouts import NABIRDS, fault, plant

FIRST, SECOND = "0000139e-21dc-4d0c-bfe1-4cae3c85c829", "0000d9fc-4e02-4c06-a0af-a55cfb16b12b"


def test_nabirds(tmp_path: Path) -> None:
    dataset = read("nabirds", plant(tmp_path, NABIRDS))
    assert dataset.ids == (FIRST, SECOND)
    assert dataset.paths == (
        "images/0817/0000139e21dc4d0cbfe14cae3c85c829.jpg",
        "images/0328/0000d9fc4e024c06a0afa55cfb16b12b.jpg",
    )
    assert dataset.labels == ("Oak Titmouse", "Harlequin Duck (Male)")
    assert dataset.splits == ("test", "train")


def test_a_leaf_and_its_parent_of_one_name_cannot_both_have_photos(tmp_path: Path) -> None:
    plant(tmp_path, NABIRDS, image_class_labels=f"{FIRST} 817\n{SECOND} 587\n")
    assert "images.txt, line 2: class 'Oak Titmouse' has the number 587, but 817 above" in fault("nabirds", tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("image_class_labels", f"{FIRST} 817\n{SECOND} 1011\n", "labels.txt, line 2: 1011 has no line in classes.txt"),
        ("train_test_split", f"{FIRST} 0\n", f"images.txt, line 2: {SECOND} has no line in train_test_split.txt"),
        ("images", f"{FIRST} ../0817/a.jpg\n", "images.txt, line 1: the path '../0817/a.jpg'"),
        ("images", f"{FIRST} 0817/a.jpg\n", "images.txt, line 1: there is no file"),
    ],
)
def test_faults_name_file_and_line(file: str, text: str, message: str, tmp_path: Path) -> None:
    assert message in fault("nabirds", plant(tmp_path, NABIRDS, **{file: text}))
