"""Drawn birds: deterministic, disjoint splits, kinds told apart by small parts alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from milvus_fghash.core.images import Preprocessing, load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.synthetic.drawings import MAX_CLASSES, draw, draw_birds, kinds
from milvus_fghash.errors import DataError


def digests(dataset: Dataset) -> list[str]:
    return [hashlib.sha256(dataset.file(row).read_bytes()).hexdigest() for row in range(len(dataset))]


def test_layout(drawn_birds: Dataset) -> None:
    assert Counter(drawn_birds.splits) == {"train": 24, "test": 12}
    assert Counter(drawn_birds.split("test").labels) == dict.fromkeys((kind.name for kind in kinds(4)), 3)
    assert load(drawn_birds.file(0), Preprocessing(size=64, resize=64)).shape == (64, 64, 3)


def test_no_picture_is_drawn_twice(drawn_birds: Dataset) -> None:
    assert len(set(digests(drawn_birds))) == len(drawn_birds)


def test_seed_decides(tmp_path: Path) -> None:
    first, again, other = (
        digests(draw_birds(tmp_path / name, classes=2, train_per_class=1, test_per_class=1, size=48, seed=seed))
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    assert not set(first) & set(other)


def test_more_pictures_leave_the_earlier_ones_as_they_were(tmp_path: Path) -> None:
    few = draw_birds(tmp_path / "few", classes=2, train_per_class=1, test_per_class=1, size=48)
    many = draw_birds(tmp_path / "many", classes=3, train_per_class=2, test_per_class=2, size=48)
    assert set(digests(few)) < set(digests(many))


def test_kinds_differ_in_few_parts() -> None:
    every = kinds(MAX_CLASSES)
    assert len({kind.name for kind in every}) == len(set(every)) == MAX_CLASSES
    for kind in kinds(12):
        apart = sorted(sum(a != b for a, b in zip(astuple(kind), astuple(other), strict=True)) for other in kinds(12))
        assert apart[0] == 0
        assert apart[1] in {1, 2}  # the nearest neighbour
    for part in zip(*map(astuple, kinds(12)), strict=True):
        assert len(set(part)) > 1  # every part tells some of the twelve apart


@pytest.mark.parametrize("row", range(1, 12))
def test_a_kind_changes_a_small_part_of_the_picture(row: int) -> None:
    def pixels(number: int) -> NDArray[np.uint8]:
        return np.asarray(draw(kinds(12)[number], 96, np.random.default_rng(5)))

    changed = (np.abs(pixels(0).astype(int) - pixels(row)) > 25).any(axis=2).mean()
    assert 0.002 < changed < 0.15


def test_same_kind_looks_different_each_time() -> None:
    pictures = [np.asarray(draw(kinds(2)[0], 64, np.random.default_rng(seed))).astype(int) for seed in range(6)]
    for row, picture in enumerate(pictures[1:]):
        assert np.abs(picture - pictures[row]).mean() > 15


def test_a_folder_with_anything_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine.jpg"):
        with pytest.raises(DataError, match="not an empty folder"):
            draw_birds(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jpg"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write drawings"):
        draw_birds(tmp_path / "file" / "birds")


def test_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("milvus_fghash.datasets.synthetic.drawings.draw", stop)
    with pytest.raises(KeyboardInterrupt):
        draw_birds(tmp_path / "birds")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "numbers", [{"classes": 1}, {"classes": 49}, {"size": 16}, {"train_per_class": 0}, {"test_per_class": 0}]
)
def test_numbers_out_of_range(numbers: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(DataError):
        draw_birds(tmp_path / "birds", **numbers)
    assert list(tmp_path.iterdir()) == []
