"""CIFAR-10: photos that lie in batches become files, once and without loss."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milvus_fghash.datasets.read import read
from tests.helpers.layouts import CIFAR, batch, fault, pixels, plant


def test_cifar(tmp_path: Path) -> None:
    dataset = read("cifar10", plant(tmp_path, CIFAR))
    assert dataset.ids == (
        "data_batch_1/00001",
        "data_batch_1/00002",
        *(f"data_batch_{number}/00001" for number in range(2, 6)),
        "test_batch/00001",
    )
    assert dataset.paths == tuple(f"png/{key}.png" for key in dataset.ids)
    assert dataset.labels == ("bird", "airplane", *("automobile",) * 4, "airplane")
    assert dataset.splits == (*("train",) * 6, "test")
    for row, seed in enumerate((10, 11, 20, 30, 40, 50, 60)):
        with Image.open(dataset.file(row)) as photo:
            assert np.array_equal(np.asarray(photo), pixels(seed))


def test_later_readings_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read("cifar10", plant(tmp_path, CIFAR))
    monkeypatch.delattr(Image.Image, "save")
    assert read("cifar10", tmp_path) == first


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("data_batch_3", batch((1, 30))[:-1], "data_batch_3.bin has 3,072 bytes, expected a multiple of 3,073"),
        ("data_batch_1", batch((2, 10), (3, 11)), "data_batch_1.bin, photo 2: class 3, but batches.meta.txt names 3"),
        ("batches.meta", "bird\nbird\nbird\n", "photo 2: class 'bird' has the number 0, but 2 above"),
    ],
)
def test_faults_name_file_and_photo(file: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    assert message in fault("cifar10", plant(tmp_path, CIFAR, **{file: content}))


@pytest.mark.parametrize("content", [batch((1, 30))[:-1], batch((3, 30))])
def test_nothing_is_written_for_a_damaged_batch(content: bytes, tmp_path: Path) -> None:
    fault("cifar10", plant(tmp_path, CIFAR, test_batch=content))
    assert {path.name for path in tmp_path.iterdir()} == set(CIFAR)


@pytest.mark.parametrize("file", ["batches.meta.txt", "data_batch_4.bin", "test_batch.bin"])
def test_without_one_of_its_files(file: str, tmp_path: Path) -> None:
    (plant(tmp_path, CIFAR) / file).unlink()
    assert f"there is no {tmp_path / file}; is {tmp_path} the folder of the data set?" in fault("cifar10", tmp_path)


def test_a_photo_that_was_removed(tmp_path: Path) -> None:
    read("cifar10", plant(tmp_path, CIFAR))
    (tmp_path / "png/test_batch/00001.png").unlink()
    message = fault("cifar10", tmp_path)
    assert "test_batch.bin, photo 1: there is no file" in message
    assert message.endswith(f"remove the folder {tmp_path / 'png'}, and it is created again")


def test_pickles_are_not_read(tmp_path: Path) -> None:
    plant(tmp_path, {"batches.meta": b"\x80\x02", "data_batch_1": b"\x80\x02", "test_batch": b"\x80\x02"})
    assert "whose pickles can run code; unpack the binary version" in fault("cifar10", tmp_path)


def test_interrupted_unpacking_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, CIFAR)
    save, saved = Image.Image.save, list[Path]()

    def stop(picture: Image.Image, place: Path) -> None:
        if len(saved) == 3:
            raise KeyboardInterrupt
        saved.append(place)
        save(picture, place)

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        read("cifar10", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(CIFAR)


def test_a_disk_that_rejects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("milvus_fghash.datasets.layouts.cifar.tempfile.mkdtemp", reject)
    plant(tmp_path, CIFAR)
    assert f"cannot write the photos to {tmp_path / 'png'}: Permission denied" in fault("cifar10", tmp_path)


def test_another_process_may_be_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def too_late(made: Path, place: Path) -> None:
        rename(made, place)
        made.mkdir()
        rename(made, place)  # fails: the place is taken by a folder that is not empty

    monkeypatch.setattr("milvus_fghash.datasets.layouts.cifar.os.rename", too_late)
    plant(tmp_path, CIFAR)
    assert len(read("cifar10", tmp_path)) == 7
    assert {path.name for path in tmp_path.iterdir()} == {*CIFAR, "png"}
