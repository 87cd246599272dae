"""Which photos are measured on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milvus_fghash.advice.sample import FEWEST_OF_A_CLASS, is_copy, sample_order, take_sample
from milvus_fghash.datasets.read import read_dataset
from milvus_fghash.errors import DataError
from tests.helpers.drawn_scenes import scene


def test_few_photos_are_all_taken() -> None:
    assert sorted(sample_order(["a", "b"], 0).tolist()) == [0, 1]


def test_of_many_classes_some_are_left_out() -> None:
    labels = [f"c{number}" for number in range(100) for _ in range(10)]
    counts = Counter(labels[row] for row in sample_order(labels, 0)[:100])
    assert sum(counts.values()) <= 100
    assert min(counts.values()) >= FEWEST_OF_A_CLASS


def test_of_few_classes_photos_are_left_out() -> None:
    labels = [f"c{number}" for number in range(4) for _ in range(100)]
    rows = sample_order(labels, 0)[:200]
    assert len(rows) == len(set(rows.tolist())) == 200
    assert {labels[row] for row in rows} == {"c0", "c1", "c2", "c3"}


def test_a_sample_keeps_the_proportions_of_classes() -> None:
    labels = ["rare"] * 40 + ["usual"] * 120 + [""] * 240
    counts = Counter(labels[row] for row in sample_order(labels, 0)[:200])
    assert 18 <= counts["rare"] <= 30
    assert 45 <= counts["usual"] <= 75
    assert 90 <= counts[""] <= 150


def test_copies_follow_their_original() -> None:
    hashes = np.array([0b1111, 0, 0b1110, 0, 1 << 40], np.int64)  # 0 stands for no hash, which is nobody's copy
    assert is_copy(hashes).tolist() == [False, False, True, False, False]


def test_copies_and_broken_photos_are_left_out(tmp_path: Path) -> None:
    for number in range(64):
        scene(number, (96, 72)).save(tmp_path / f"{number:03}.png")
    scene(0, (96, 72)).save(tmp_path / "again.png")
    (tmp_path / "broken.png").write_bytes(b"no photo")
    sample, survey = take_sample(read_dataset(tmp_path), 1000, 0, lambda done, total, what: None)
    assert (survey.photos, survey.copies, survey.unreadable) == (66, 1, 1)
    assert len(sample) == survey.sampled == 64


def test_too_few_photos(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
    with pytest.raises(DataError, match="has 1 different photos that can be read; at least 60 are needed"):
        take_sample(read_dataset(tmp_path), 1000, 0, lambda done, total, what: None)
