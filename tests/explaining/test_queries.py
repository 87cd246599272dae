"""Which photos ask: the same ones however the listing is ordered, and of many classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from milvus_fghash.data.listing import Listing
from milvus_fghash.errors import DataError
from milvus_fghash.explaining.queries import drawn, given, part_of

CLASSES = ("robin", "wren", "gull", "")


@pytest.fixture
def listing() -> Listing:
    """Four photos of each class, but one of the last."""
    rows = [(f"{label}-{number}", label) for label in CLASSES for number in range(4) if label or not number]
    ids, labels = zip(*rows, strict=True)
    return Listing(Path("/photos"), ids, tuple(f"{key}.jpg" for key in ids), labels, ("test",) * len(ids))


def test_each_class_gives_one_photo_before_any_gives_two(listing: Listing) -> None:
    assert sorted(query.label for query in drawn(listing, 4)) == sorted(CLASSES)
    assert sorted(query.label for query in drawn(listing, 7)) == sorted([*CLASSES, "robin", "wren", "gull"])
    for query in drawn(listing, 7):
        assert query.file == Path("/photos") / query.name
        assert query.name == f"{query.id}.jpg"


def test_the_order_of_the_listing_does_not_matter(listing: Listing) -> None:
    shuffled = listing.take(np.random.default_rng(0).permutation(len(listing)))
    assert drawn(shuffled, 9) == drawn(listing, 9)


def test_more_photos_keep_those_that_fewer_gave(listing: Listing) -> None:
    assert drawn(listing, 9)[:5] == drawn(listing, 5)
    assert len(drawn(listing, 99)) == len(listing) == len(set(drawn(listing, 99)))


def test_photos_that_are_given_have_the_class_of_the_listing(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    listing = Listing(tmp_path, ("7",), ("a.jpg",), ("robin",), ("",))
    (tmp_path / "below").mkdir()
    known, stranger = given(listing, [tmp_path / "below" / ".." / "a.jpg", tmp_path / "b.jpg"])
    assert (known.label, known.id) == ("robin", "7")
    assert (stranger.label, stranger.id) == ("", None)
    with pytest.raises(DataError, match="twice"):
        given(listing, [tmp_path / "a.jpg", tmp_path / "below" / ".." / "a.jpg"])


def test_a_listing_without_splits_is_taken_whole(listing: Listing) -> None:
    assert part_of(listing, "test", "birds") == (listing, "the split 'test' of birds")
    with pytest.raises(DataError, match="train"):
        part_of(listing, "train", "birds")
    plain = Listing(listing.root, listing.ids, listing.paths, listing.labels, ("",) * len(listing))
    assert part_of(plain, "train", "birds") == (plain, "all of birds")
