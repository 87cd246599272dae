"""Which photos ask: the same ones however the listing is ordered, and of many classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import DataError
from milvus_fghash.explain.queries import drawn, given, part_of

CLASSES = ("robin", "wren", "gull", "")


@pytest.fixture
def dataset() -> Dataset:
    """Four photos of each class, but one of the last."""
    rows = [(f"{label}-{number}", label) for label in CLASSES for number in range(4) if label or not number]
    ids, labels = zip(*rows, strict=True)
    return Dataset(Path("/photos"), ids, tuple(f"{key}.jpg" for key in ids), labels, ("test",) * len(ids))


def test_each_class_gives_one_photo_before_any_gives_two(dataset: Dataset) -> None:
    assert sorted(query.label for query in drawn(dataset, 4)) == sorted(CLASSES)
    assert sorted(query.label for query in drawn(dataset, 7)) == sorted([*CLASSES, "robin", "wren", "gull"])
    for query in drawn(dataset, 7):
        assert query.file == Path("/photos") / query.name
        assert query.name == f"{query.id}.jpg"


def test_the_order_of_the_listing_does_not_matter(dataset: Dataset) -> None:
    shuffled = dataset.take(np.random.default_rng(0).permutation(len(dataset)))
    assert drawn(shuffled, 9) == drawn(dataset, 9)


def test_more_photos_keep_those_that_fewer_gave(dataset: Dataset) -> None:
    assert drawn(dataset, 9)[:5] == drawn(dataset, 5)
    assert len(drawn(dataset, 99)) == len(dataset) == len(set(drawn(dataset, 99)))


def test_photos_that_are_given_have_the_class_of_the_listing(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    dataset = Dataset(tmp_path, ("7",), ("a.jpg",), ("robin",), ("",))
    (tmp_path / "below").mkdir()
    known, stranger = given(dataset, [tmp_path / "below" / ".." / "a.jpg", tmp_path / "b.jpg"])
    assert (known.label, known.id) == ("robin", "7")
    assert (stranger.label, stranger.id) == ("", None)
    with pytest.raises(DataError, match="twice"):
        given(dataset, [tmp_path / "a.jpg", tmp_path / "below" / ".." / "a.jpg"])


def test_a_listing_without_splits_is_taken_whole(dataset: Dataset) -> None:
    assert part_of(dataset, "test", "birds") == (dataset, "the split 'test' of birds")
    with pytest.raises(DataError, match="train"):
        part_of(dataset, "train", "birds")
    plain = Dataset(dataset.root, dataset.ids, dataset.paths, dataset.labels, ("",) * len(dataset))
    assert part_of(plain, "train", "birds") == (plain, "all of birds")
