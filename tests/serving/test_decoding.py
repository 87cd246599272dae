"""Order, look-ahead and early stop of the decoding threads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from milvus_fghash.images import DEFAULT_LIMITS, Preprocessing
from milvus_fghash.serving.decoding import AHEAD, THREADS, Photo, Refused, batches, decode

SMALL = Preprocessing(size=8, resize=8)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """200 pictures, each of its own grey."""
    paths = [tmp_path / f"{grey}.png" for grey in range(200)]
    for grey, path in enumerate(paths):
        Image.new("RGB", (9, 9), (grey, grey, grey)).save(path)
    return paths


def test_photos_come_in_order_with_the_hash_of_their_file(pictures: list[Path]) -> None:
    for row, photo in enumerate(decode(pictures, SMALL, DEFAULT_LIMITS)):
        assert isinstance(photo, Photo)
        assert (photo.row, int(photo.pixels[0, 0, 0])) == (row, row)
        assert photo.content_sha == hashlib.sha256(pictures[row].read_bytes()).hexdigest()


def test_the_look_ahead_is_bounded(pictures: list[Path]) -> None:
    asked = 0

    def paths() -> Iterator[Path]:
        nonlocal asked
        for path in pictures:
            asked += 1
            yield path

    decoded = decode(paths(), SMALL, DEFAULT_LIMITS)
    for taken in range(1, 20):
        next(decoded)
        assert asked <= taken + THREADS * AHEAD
    decoded.close()  # type: ignore[attr-defined]
    assert asked < len(pictures)


def test_batches_hold_photos_only(pictures: list[Path]) -> None:
    pictures[5].write_bytes(b"")
    refused: list[Refused] = []
    groups = list(batches(decode(pictures[:20], SMALL, DEFAULT_LIMITS), 8, refused.append))
    assert [len(group) for group in groups] == [8, 8, 3]
    assert [one.row for one in refused] == [5]
    assert [photo.row for group in groups for photo in group] == [row for row in range(20) if row != 5]
