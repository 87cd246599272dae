"""Oxford Flowers-102: numbers for names, and the splits as published."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.datasets.read import read
from tests.helpers.layouts import FLOWERS, fault, mat, plant


def test_flowers(tmp_path: Path) -> None:
    dataset = read("flowers102", plant(tmp_path, FLOWERS))
    assert dataset.ids == ("3", "2", "1", "4")
    assert dataset.paths == tuple(f"jpg/image_0000{number}.jpg" for number in dataset.ids)
    assert dataset.labels == ("002", "077", "077", "102")
    assert dataset.splits == ("train", "train", "val", "test")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("setid", mat(trnid=[3, 5], valid=[1], tstid=[4]), "setid.mat, trnid, entry 2: photo 5 is none of the 4 in"),
        ("setid", mat(trnid=[3], valid=[0], tstid=[4]), "setid.mat, valid, entry 1: photo 0 is none of the 4 in"),
        ("setid", mat(trnid=[3], valid=[1], tstid=[3]), "setid.mat, tstid, entry 1: id '3' occurs twice, first in "),
        ("setid", mat(trnid=[3], tstid=[4]), "setid.mat cannot be read as a MATLAB file: there is no variable valid"),
        ("imagelabels", mat(labels=[77, 0, 2, 102]), "imagelabels.mat: classes are numbered from 1, got 0"),
    ],
)
def test_faults_name_file_and_entry(file: str, content: bytes, message: str, tmp_path: Path) -> None:
    assert message in fault("flowers102", plant(tmp_path, FLOWERS, **{file: content}))


@pytest.mark.parametrize("file", ["imagelabels.mat", "setid.mat", "jpg/image_00004.jpg"])
def test_without_one_of_its_files(file: str, tmp_path: Path) -> None:
    (plant(tmp_path, FLOWERS) / file).unlink()
    assert str(tmp_path / file) in fault("flowers102", tmp_path)
