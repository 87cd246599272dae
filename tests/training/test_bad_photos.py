"""Photos that cannot be learned from stop a training before any work, and leave nothing behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.read import read
from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.training.run import run_training
from tests.helpers.demo_recipe import FROZEN, recipe

pytestmark = pytest.mark.full


@pytest.mark.parametrize("changes", [(), ("training.workers=1",), FROZEN], ids=["alone", "a worker", "frozen"])
def test_all_photos_that_cannot_be_read_are_named_before_any_work(
    drawn_birds: Dataset, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    (tmp_path / "x.jpg").write_text("no photo")
    good = drawn_birds.split("train")
    files = [str(good.file(row)) for row in range(20)] + [str(tmp_path / "x.jpg")] * 7
    ids, labels = tuple(str(number) for number in range(27)), (*good.labels[:20], *"ababaab")
    broken = Dataset(tmp_path, ids, tuple(files), labels, ("train",) * 27)
    with pytest.raises(DataError, match=r"^7 of 27 photos .* remove them .*photo rejected \(format\).*; and 2 more$"):
        run_training(recipe("fcaenet", *changes), 12, broken, tmp_path / "run")
    assert not (tmp_path / "run").exists(), "nothing is left"


def test_a_photo_that_is_gone_is_named(tmp_path: Path) -> None:
    absent = Dataset(tmp_path, ("x", "y"), ("1.jpg", "2.jpg"), ("a", "b"), ("train", "train"))
    for changes in ((), FROZEN):
        with pytest.raises(DataError, match=r"1.jpg"):
            run_training(recipe("fcaenet", *changes), 12, absent, tmp_path / "run")


def test_photos_without_a_class_are_counted(drawn_birds: Dataset, tmp_path: Path) -> None:
    labels = tuple("" if row % 2 else label for row, label in enumerate(drawn_birds.labels))
    with pytest.raises(DataError, match=r"12 of 24 training photos in .* have no class, and fcaenet needs one"):
        run_training(recipe(), 12, replace(drawn_birds, labels=labels), tmp_path / "run")
    (tmp_path / "list.csv").write_text("path,class,split\n1.jpg,jay,train\n2.jpg,wren,train\n")
    with pytest.raises(DataError, match=r"has no column 'label', only 'path', 'class', 'split'"):
        run_training(recipe(), 12, read("table", tmp_path / "list.csv"), tmp_path / "run")


def test_nothing_is_written_among_the_photos(drawn_birds: Dataset) -> None:
    with pytest.raises(ConfigError, match="is the folder of the photos"):
        run_training(recipe(), 12, drawn_birds, drawn_birds.root)
    assert not (drawn_birds.root / "checkpoints").exists()


@pytest.mark.parametrize("change", ["method.options.gama=1", "backbone.weights='nowhere.safetensors'"])
def test_a_training_that_cannot_begin_leaves_nothing(drawn_birds: Dataset, tmp_path: Path, change: str) -> None:
    with pytest.raises(ConfigError):
        run_training(recipe("fcaenet", *FROZEN, change), 12, drawn_birds, tmp_path / "run")
    assert not list(tmp_path.iterdir())
