"""Which layout a folder has: each is known by itself, whatever else lies in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.datasets.read import DATASETS, detect, read
from milvus_fghash.errors import DataError
from tests.helpers.layouts import CUB, DOGS, FLOWERS, LAYOUTS, NABIRDS, fault, plant


def test_every_layout_is_drawn() -> None:
    assert set(LAYOUTS) == set(DATASETS) - {"table", "archive", "nus-wide-21"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_taken_for_itself(name: str, tmp_path: Path) -> None:
    root = plant(tmp_path / "photos.csv", LAYOUTS[name])  # a folder, whatever its name
    assert detect(root) == name
    read(name, root)
    assert detect(root) == name


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_read_whole(name: str, tmp_path: Path) -> None:
    dataset = read(name, plant(tmp_path, LAYOUTS[name]))
    photos = {path for path in LAYOUTS[name] if path.lower().endswith((".jpg", ".jpeg"))}
    assert not photos - set(dataset.paths)
    assert all(dataset.file(row).is_file() for row in range(len(dataset)))
    assert {"train"} < set(dataset.splits) <= {"train", "val", "test"}
    assert all(dataset.labels)


@pytest.mark.parametrize(
    ("name", "mark"), [(name, mark) for name, card in DATASETS.items() for mark in sorted(card.marks)]
)
def test_no_layout_is_known_without_one_of_its_marks(name: str, mark: str, tmp_path: Path) -> None:
    files = {path: content for path, content in LAYOUTS[name].items() if not path.startswith(mark)}
    assert detect(plant(tmp_path, files)) == ("cub" if mark == "hierarchy.txt" else "folder")


def test_the_layout_that_asks_for_more_wins(tmp_path: Path) -> None:
    assert DATASETS["cub"].marks < DATASETS["nabirds"].marks
    assert detect(plant(tmp_path, {**CUB, **NABIRDS})) == "nabirds"


def test_a_folder_of_two_layouts_is_not_guessed(tmp_path: Path) -> None:
    plant(tmp_path, {**DOGS, **FLOWERS})
    with pytest.raises(DataError, match="matches the layouts dogs and flowers102; choose one"):
        detect(tmp_path)
    assert read("dogs", tmp_path).classes == ("n01-pug", "n02-corgi")


def test_tables_are_known_by_their_suffix(tmp_path: Path) -> None:
    assert detect(tmp_path / "photos.csv") == detect(tmp_path / "photos.PARQUET") == "table"
    assert detect(tmp_path / "none") == "folder"


def test_unknown_data_set(tmp_path: Path) -> None:
    assert "Did you mean food101?" in fault("food-101", tmp_path)


def test_each_card_speaks() -> None:
    for card in DATASETS.values():
        assert card.title
        assert card.layout
        assert card.source
