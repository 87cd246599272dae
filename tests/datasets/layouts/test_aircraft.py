"""FGVC-Aircraft: variants, trained on train and val together."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.datasets.read import read
from tests.helpers.layouts import AIRCRAFT, fault, plant


def test_aircraft(tmp_path: Path) -> None:
    dataset = read("aircraft", plant(tmp_path, AIRCRAFT))
    assert dataset.ids == ("1025794", "0056978", "1514522")
    assert dataset.paths == ("data/images/1025794.jpg", "data/images/0056978.jpg", "data/images/1514522.jpg")
    assert dataset.labels == ("707-320", "F/A-18", "707-320")
    assert dataset.splits == ("train", "train", "test")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("images_variant_trainval", "1025794\n", "images_variant_trainval.txt, line 1: expected"),
        ("images_variant_test", "\n1514522 Boeing 707\n", "_test.txt, line 2: variant 'Boeing 707' is not in"),
        ("images_variant_test", "9999999 707-320\n", "images_variant_test.txt, line 1: there is no file"),
        ("images_variant_test", "1025794 707-320\n", "_test.txt, line 1: id '1025794' occurs twice, first in "),
        ("images_variant_test", "../../a 707-320\n", "images_variant_test.txt, line 1: the path '../../a.jpg'"),
        ("images_variant_test", "/1514522 707-320\n", "images_variant_test.txt, line 1: the path '/1514522.jpg'"),
    ],
)
def test_faults_name_file_and_line(file: str, text: str, message: str, tmp_path: Path) -> None:
    assert message in fault("aircraft", plant(tmp_path, AIRCRAFT, **{file: text}))


@pytest.mark.parametrize("file", ["variants.txt", "images_variant_trainval.txt", "images_variant_test.txt"])
def test_without_one_of_its_files(file: str, tmp_path: Path) -> None:
    (plant(tmp_path, AIRCRAFT) / "data" / file).unlink()
    assert f"there is no {tmp_path / 'data' / file}; is " in fault("aircraft", tmp_path)
