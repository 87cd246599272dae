"""NUS-WIDE: several labels for each photo, and photos that have vanished."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.datasets.dataset import summary
from milvus_fghash.datasets.layouts.nus_wide import FREQUENT_CONCEPTS
from milvus_fghash.datasets.read import read, read_dataset
from tests.helpers.layouts import NUS_WIDE, fault, plant


def test_nus_wide(tmp_path: Path) -> None:
    dataset = read("nus-wide", plant(tmp_path, NUS_WIDE))
    assert dataset.ids == ("actor/0001_2124.jpg", "actor/0002_1749.jpg", "zoo/0003_99.jpg", "zoo/0004_5.jpg")
    assert dataset.paths == tuple(f"Flickr/{key}" for key in dataset.ids)
    assert dataset.labels == ("|animal|sky|water|", "|sky|", "|animal|", "|airport|")
    assert dataset.classes == ("airport", "animal", "sky", "water")
    assert dataset.splits == ("train", "test", "train", "test")
    assert "4 classes, 1.5 labels a photo (from the 4 label files of NUS-WIDE)" in summary(dataset)


def test_photos_without_labels_and_missing_photos_are_left_out_and_counted(tmp_path: Path) -> None:
    labels = {"Labels_airport": "0\n0\n0\n0\n"}
    plant(tmp_path, NUS_WIDE, **labels)
    (tmp_path / "Flickr/actor/0002_1749.jpg").unlink()
    dataset = read_dataset(tmp_path)
    assert dataset.ids == ("actor/0001_2124.jpg", "zoo/0003_99.jpg")
    assert dataset.read_report.left_out.counts == {"photo without a label": 1, "missing photo": 1}
    assert dataset.read_report.left_out.first["missing photo"] == "Flickr/actor/0002_1749.jpg"
    assert dataset.split("train").labels == ("|animal|sky|water|", "|animal|")


def test_no_photo_at_all(tmp_path: Path) -> None:
    plant(tmp_path, {name: text for name, text in NUS_WIDE.items() if not name.startswith("Flickr")})
    assert "no photos found" in fault("nus-wide", tmp_path)
    assert "4 missing photo" in fault("nus-wide", tmp_path)


@pytest.mark.parametrize("folder", ["images", "."])
def test_photos_in_another_folder_and_the_concepts_beside_it(folder: str, tmp_path: Path) -> None:
    moved = {name.replace("Flickr", folder).replace("ConceptsList/", ""): text for name, text in NUS_WIDE.items()}
    dataset = read("nus-wide", plant(tmp_path, moved))
    assert dataset.file(3) == tmp_path / folder / "zoo/0004_5.jpg"
    assert dataset.file(3).is_file()


def test_the_frequent_concepts(tmp_path: Path) -> None:
    rare = {f"Groundtruth/AllLabels/Labels_{name}.txt": "0\n0\n0\n0\n" for name in FREQUENT_CONCEPTS}
    dataset = read("nus-wide-21", plant(tmp_path, {**rare, **NUS_WIDE}))
    assert len(FREQUENT_CONCEPTS) == 21
    assert dataset.labels == ("|animal|sky|water|", "|sky|", "|animal|")  # airport is not one of them
    assert dataset.read_report.left_out.first == {"photo without a label": "Flickr/zoo/0004_5.jpg"}


def test_without_the_lists_of_the_splits(tmp_path: Path) -> None:
    (plant(tmp_path, NUS_WIDE) / "ImageList/TestImagelist.txt").unlink()
    dataset = read("nus-wide", tmp_path)
    assert set(dataset.splits) == {""}
    assert "no TestImagelist.txt" in dataset.read_report.warnings[0]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("Labels_sky", "1\n1\n2\n0\n", "Labels_sky.txt, line 3: expected 0 or 1, got '2'"),
        ("Labels_sky", "1\n1\n0\n", "Labels_sky.txt has 3 lines, and "),
        ("Imagelist", "a\\1.jpg\n..\\2.jpg\na\\3.jpg\na\\4.jpg\n", "Imagelist.txt, line 2: the path '../2.jpg'"),
        ("Imagelist", "actor\\0001_2124.jpg\n" * 4, "id 'actor/0001_2124.jpg' occurs twice"),
        ("TrainImagelist", "zoo\\9.jpg\n", "TrainImagelist.txt, line 1: zoo/9.jpg is not in "),
        (
            "TestImagelist",
            "zoo\\0003_99.jpg\n",
            "TestImagelist.txt, line 1: zoo/0003_99.jpg is already in the split",
        ),
        ("Concepts81", "sky\nsnow\n", "Labels_snow.txt; was the ground truth"),
    ],
)
def test_faults_name_file_and_line(file: str, text: str, said: str, tmp_path: Path) -> None:
    files = NUS_WIDE
    if text.startswith("actor"):
        files = {**files, "ImageList/TrainImagelist.txt": "", "ImageList/TestImagelist.txt": ""}
    assert said in fault("nus-wide", plant(tmp_path, files, **{file: text}))


@pytest.mark.parametrize("name", ["Imagelist.txt", "Concepts81.txt"])
def test_without_one_of_its_lists(name: str, tmp_path: Path) -> None:
    (found,) = plant(tmp_path, NUS_WIDE).rglob(name)
    found.unlink()
    assert f"{name}; is " in fault("nus-wide", tmp_path)
