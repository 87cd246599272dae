"""Stanford Dogs: lists in MATLAB files."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.datasets.read import read
from tests.helpers.layouts import DOGS, fault, mat, plant


def test_dogs(tmp_path: Path) -> None:
    dataset = read("dogs", plant(tmp_path, DOGS))
    assert dataset.ids == ("n01-pug/n01_5.jpg", "n02-corgi/n02_4.jpg", "n01-pug/n01_3.jpg")
    assert dataset.paths == tuple(f"Images/{key}" for key in dataset.ids)
    assert dataset.labels == ("n01-pug", "n02-corgi", "n01-pug")
    assert dataset.splits == ("train", "train", "test")


@pytest.mark.parametrize(
    ("test_list", "message"),
    [
        (mat(file_list=["n01-pug/n01_9.jpg"], labels=[1]), "test_list.mat, entry 1: there is no file"),
        (mat(file_list=["n01_3.jpg"], labels=[1]), "test_list.mat, entry 1: expected CLASS/PHOTO, got 'n01_3.jpg'"),
        (mat(file_list=["n01-pug/../a.jpg"], labels=[1]), "test_list.mat, entry 1: the path 'n01-pug/../a.jpg'"),
        (mat(file_list=["n01-pug/n01_3.jpg"], labels=[3]), "class 'n01-pug' has the number 3, but 1 above"),
        (mat(file_list=["n01-pug/n01_5.jpg"], labels=[1]), "test_list.mat, entry 1: id 'n01-pug/n01_5.jpg' occurs tw"),
        (mat(file_list=["n01-pug/n01_3.jpg"], labels=[1, 1]), "test_list.mat: 1 names in file_list, but 2 numbers in"),
        (mat(labels=[1]), "test_list.mat cannot be read as a MATLAB file: there is no variable file_list"),
        (mat(file_list=[1], labels=[1]), "file_list is not a cell array of texts"),
        (mat(file_list=["n01-pug/n01_3.jpg"], labels=["1"]), "labels is not an array of whole numbers"),
        (b"", "test_list.mat cannot be read as a MATLAB file: expected a MAT-file of version 5 to 7"),
    ],
)
def test_faults_name_file_and_entry(test_list: bytes, message: str, tmp_path: Path) -> None:
    assert message in fault("dogs", plant(tmp_path, DOGS, test_list=test_list))


@pytest.mark.parametrize("file", ["train_list.mat", "test_list.mat"])
def test_without_one_of_its_lists(file: str, tmp_path: Path) -> None:
    (plant(tmp_path, DOGS) / file).unlink()
    assert f"there is no {tmp_path / file}; is {tmp_path} the folder of the data set?" in fault("dogs", tmp_path)
