"""Which photos ask: the same ones however the listing is ordered, and of many classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import DataError
from milvus_fghash.explain.queries import named_queries, photos_of_split, sample_queries

CLASSES = ("robin", "wren", "gull", "")


@pytest.fixture
def dataset() -> Dataset:
    """Four photos of each class, but one of the last."""
    rows = [(f"{label}-{number}", label) for label in CLASSES for number in range(4) if label or not number]
    ids, labels = zip(*rows, strict=True)
    return Dataset(Path("/photos"), ids, tuple(f"{key}.jpg" for key in ids), labels, ("test",) * len(ids))


def test_each_class_gives_one_photo_before_any_gives_two(dataset: Dataset) -> None:
    assert sorted(query.label for query in sample_queries(dataset, 4)) == sorted(CLASSES)
    assert sorted(query.label for query in sample_queries(dataset, 7)) == sorted([*CLASSES, "robin", "wren", "gull"])
    for query in sample_queries(dataset, 7):
        assert query.file == Path("/photos") / query.name
        assert query.name == f"{query.id}.jpg"


def test_the_order_of_the_listing_does_not_matter(dataset: Dataset) -> None:
    shuffled = dataset.take(np.random.default_rng(0).permutation(len(dataset)))
    assert sample_queries(shuffled, 9) == sample_queries(dataset, 9)


def test_more_photos_keep_those_that_fewer_gave(dataset: Dataset) -> None:
    assert sample_queries(dataset, 9)[:5] == sample_queries(dataset, 5)
    assert len(sample_queries(dataset, 99)) == len(dataset) == len(set(sample_queries(dataset, 99)))


def test_photos_that_are_given_have_the_class_of_the_listing(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    dataset = Dataset(tmp_path, ("7",), ("a.jpg",), ("robin",), ("",))
    (tmp_path / "below").mkdir()
    known, stranger = named_queries(dataset, [tmp_path / "below" / ".." / "a.jpg", tmp_path / "b.jpg"])
    assert (known.label, known.id) == ("robin", "7")
    assert (stranger.label, stranger.id) == ("", None)
    with pytest.raises(DataError, match="twice"):
        named_queries(dataset, [tmp_path / "a.jpg", tmp_path / "below" / ".." / "a.jpg"])


def test_a_listing_without_splits_is_taken_whole(dataset: Dataset) -> None:
    assert photos_of_split(dataset, "test", "birds") == (dataset, "split 'test' of birds")
    with pytest.raises(DataError, match="train"):
        photos_of_split(dataset, "train", "birds")
    plain = Dataset(dataset.root, dataset.ids, dataset.paths, dataset.labels, ("",) * len(dataset))
    assert photos_of_split(plain, "train", "birds") == (plain, "all of birds")
