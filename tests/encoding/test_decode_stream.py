"""Order, look-ahead, early stop and rejections of decoding, here and in workers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from milvus_fghash.core.images import Limits
from milvus_fghash.encoding.decode_options import DEFAULT_WORKERS, MAX_PHOTOS_WITHOUT_WORKERS, DecodeOptions
from milvus_fghash.encoding.decode_stream import AHEAD, Photo, RejectedSource, batches, decode
from milvus_fghash.errors import ConfigError
from tests.helpers.decoders import SMALL, Processes
from tests.helpers.odd_photos import REJECTED, TAKEN

pytestmark = pytest.mark.full


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_photos_come_in_order_with_the_hash_of_their_file(pictures: list[Path], workers: int) -> None:
    seen = list(decode(pictures, SMALL, DecodeOptions(workers=workers)))
    assert len(seen) == len(pictures)
    for row, photo in enumerate(seen):
        assert isinstance(photo, Photo)
        assert (photo.row, int(photo.pixels[0, 0, 0])) == (row, row)
        assert photo.content_sha == hashlib.sha256(pictures[row].read_bytes()).hexdigest()
        assert photo.pixels.flags.writeable


def test_no_photos_start_no_worker(started: Processes) -> None:
    assert list(decode([], SMALL, DecodeOptions(workers=2))) == []
    assert started == []


def test_workers_start_as_they_are_needed(pictures: list[Path], started: Processes) -> None:
    assert len(list(decode(pictures[:2], SMALL, DecodeOptions(workers=5)))) == 2
    assert len(started) == 2


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_look_ahead_is_bounded(pictures: list[Path], workers: int) -> None:
    asked = 0

    def paths() -> Iterator[Path]:
        nonlocal asked
        for path in pictures:
            asked += 1
            yield path

    decoded = decode(paths(), SMALL, DecodeOptions(workers=workers))
    for taken in range(1, 20):
        next(decoded)
        assert asked <= taken + max(workers * AHEAD - 1, 0)
    assert asked == 19 + max(workers * AHEAD - 1, 0)
    decoded.close()


def test_workers_give_what_is_decoded_here(tmp_path: Path) -> None:
    for name, raw in {**TAKEN, **{name: raw for name, (raw, _) in REJECTED.items()}}.items():
        (tmp_path / name).write_bytes(raw)
    paths = sorted(tmp_path.iterdir())
    strange = tmp_path / os.fsdecode(b"caf\xe9.png")
    strange.write_bytes(TAKEN["palette.png"])
    names = ["none.png", "a\0b.png", "lone \ud800.png", "caf\udcff.png", "x" * 300, "long/" * 2000, "new\nline"]
    paths += [strange, tmp_path, Path(), Path("none.png"), *(tmp_path / name for name in names)]
    limits = Limits(max_pixels=39_999)
    here = list(decode(paths, SMALL, DecodeOptions(limits=limits, workers=0)))
    there = list(decode(paths, SMALL, DecodeOptions(limits=limits, workers=2)))
    assert len(here) == len(there) == len(paths)
    for ours, theirs in zip(here, there, strict=True):
        if isinstance(ours, Photo):
            assert isinstance(theirs, Photo)
            assert (ours.row, ours.content_sha) == (theirs.row, theirs.content_sha)
            assert np.array_equal(ours.pixels, theirs.pixels)
        else:
            assert ours == theirs
    assert [isinstance(one, Photo) for one in here].count(True) == len(TAKEN) + 1


def test_batches_hold_photos_only(pictures: list[Path]) -> None:
    pictures[5].write_bytes(b"")
    rejected: list[RejectedSource] = []
    groups = list(batches(decode(pictures[:20], SMALL, DecodeOptions(workers=0)), 8, rejected.append))
    assert [len(group) for group in groups] == [8, 8, 3]
    assert [one.row for one in rejected] == [5]
    assert [photo.row for group in groups for photo in group] == [row for row in range(20) if row != 5]


@pytest.mark.parametrize("workers", [-1, -8])
def test_a_negative_number_of_workers_is_rejected(workers: int) -> None:
    with pytest.raises(ConfigError, match="the number of workers must be 0 or more"):
        DecodeOptions(workers=workers)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), 1e9])
def test_a_time_limit_out_of_range_is_rejected(timeout: float) -> None:
    with pytest.raises(ConfigError, match="the time limit of decoding must be above 0 and at most 86400 seconds"):
        DecodeOptions(decode_timeout=timeout)


def test_a_few_photos_are_decoded_here() -> None:
    counts = [0, MAX_PHOTOS_WITHOUT_WORKERS, MAX_PHOTOS_WITHOUT_WORKERS + 1]
    assert [DecodeOptions().for_photos(count).worker_count for count in counts] == [0, 0, DEFAULT_WORKERS]
    assert DecodeOptions(workers=3).for_photos(1).worker_count == 3
    assert DecodeOptions().worker_count == DEFAULT_WORKERS
