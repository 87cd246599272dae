"""Whatever bytes a file has: a photo or a rejection, and nothing else."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from milvus_fghash.core.images import Limits
from milvus_fghash.encoding.decode_result import Photo, Rejected, decode_one
from tests.helpers.decoders import SMALL
from tests.helpers.image_bytes import encode, noise

PICTURE = noise(24, 16)
MORE = {"save_all": True, "append_images": [PICTURE.rotate(90)]}
GOOD = {
    "baseline": encode(PICTURE, "JPEG"),
    "progressive": encode(PICTURE, "JPEG", progressive=True),
    "cmyk": encode(PICTURE.convert("CMYK"), "JPEG"),
    "mpo": encode(PICTURE, "MPO", **MORE),
    "png": encode(PICTURE),
    "palette": encode(PICTURE.quantize(8)),
    "gif": encode(PICTURE, "GIF", **MORE),
    "webp": encode(PICTURE, "WEBP"),
    "animated webp": encode(PICTURE.convert("RGBA"), "WEBP", lossless=True, **MORE),
    "tiff": encode(PICTURE, "TIFF"),
    "lzw": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "big tiff": encode(PICTURE, "TIFF", big_tiff=True),
    "bmp": encode(PICTURE, "BMP"),
}
LIMITS = Limits(max_pixels=1_000_000, max_bytes=100_000)
REASONS = {"missing", "empty", "too-large", "format", "truncated", "bomb", "broken"}

edits = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=6)
cuts = st.floats(0, 1) | st.just(1.0)


def outcome(raw: bytes, folder: Path) -> Photo | Rejected:
    file = folder / "photo"
    file.write_bytes(raw)
    with warnings.catch_warnings(action="ignore"):  # workers show none
        return decode_one(0, file, SMALL, LIMITS)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_is_a_photo(name: str, tmp_path: Path) -> None:
    assert isinstance(outcome(GOOD[name], tmp_path), Photo)


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=60, deadline=None)
@given(edits=edits, cut=cuts)
def test_a_damaged_file_is_a_photo_or_rejected(
    name: str, edits: list[tuple[float, bytes]], cut: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray(GOOD[name])
    for place, new in edits:
        start = int(place * len(raw))
        raw[start : start + len(new)] = new
    found = outcome(bytes(raw[: int(cut * len(raw))]), tmp_path_factory.getbasetemp())
    if isinstance(found, Rejected):
        assert found.reason in REASONS
        assert found.message.isprintable()
    else:
        assert found.pixels.shape == (SMALL.size, SMALL.size, 3)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    assert isinstance(outcome(raw, tmp_path_factory.getbasetemp()), Rejected)


def test_a_picture_of_one_colour_can_be_damaged_where_it_does_not_matter(tmp_path: Path) -> None:
    """What comes behind the end of a picture is nobody's business."""
    raw = encode(Image.new("RGB", (8, 8), (7, 7, 7)))
    found = outcome(raw + b"<script>", tmp_path)
    assert isinstance(found, Photo)
    assert (found.pixels == 7).all()
