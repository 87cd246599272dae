"""VegFru: sub-classes, with the split val kept apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.datasets.read import read
from tests.helpers.layouts import VEGFRU, fault, plant


def test_vegfru(tmp_path: Path) -> None:
    dataset = read("vegfru", plant(tmp_path, VEGFRU))
    assert dataset.paths == dataset.ids
    assert dataset.ids == (
        "veg200_images/mint/v_1.jpg",
        "fru92_images/plum-leaf_crab/f_1.jpg",
        "veg200_images/mint/v_2.jpg",
        "veg200_images/mint/v_3.jpg",
    )
    assert dataset.labels == ("mint", "plum-leaf_crab", "mint", "mint")
    assert dataset.splits == ("train", "train", "val", "test")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("vegfru_test", "veg200_images/mint/v_3.jpg\n", "vegfru_test.txt, line 1: expected FOLDER/CLASS/PHOTO and"),
        ("vegfru_test", "veg200_images/mint/v_3.jpg seven\n", "vegfru_test.txt, line 1: expected FOLDER/CLASS/PHOTO"),
        ("vegfru_test", "\nmint/v_3.jpg 7\n", "vegfru_test.txt, line 2: expected FOLDER/CLASS/PHOTO"),
        ("vegfru_test", "veg200_images/mint/v_9.jpg 7\n", "vegfru_test.txt, line 1: there is no file"),
        ("vegfru_test", "veg200_images/../v_3.jpg 7\n", "vegfru_test.txt, line 1: the path"),
        ("vegfru_val", "veg200_images/mint/v_1.jpg 7\n", "vegfru_val.txt, line 1: id 'veg200_images/mint/v_1.jpg'"),
        ("vegfru_test", "veg200_images/mint/v_3.jpg 8\n", "line 1: class 'mint' has the number 8, but 7 above"),
        ("vegfru_test", "veg200_images/dill/v.jpg 7\n", "the number 7 is that of 'dill', but of 'mint' above"),
    ],
)
def test_faults_name_file_and_line(file: str, text: str, message: str, tmp_path: Path) -> None:
    assert message in fault("vegfru", plant(tmp_path, VEGFRU, **{file: text}))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_without_one_of_its_lists(split: str, tmp_path: Path) -> None:
    (plant(tmp_path, VEGFRU) / "vegfru_list" / f"vegfru_{split}.txt").unlink()
    assert f"vegfru_{split}.txt; is " in fault("vegfru", tmp_path)
