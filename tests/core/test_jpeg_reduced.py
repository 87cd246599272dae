"""Large JPEGs at a reduced scale: what is left, what it looks like, and what is left alone."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.core.images import Limits, Preprocessing, load, open_rgb, prepare, upright_rgb
from milvus_fghash.core.jpeg_reduced import MARGIN, _frame
from milvus_fghash.errors import ImageRejected
from tests.helpers.image_bytes import BLUE, RED, encode, noise, turned_by

TINY = Preprocessing(size=8, resize=8)
ENOUGH = 8 * MARGIN


def picture(width: int, height: int) -> Image.Image:
    """Coarse noise, a red quarter on the upper left, a blue one on the upper right."""
    image = noise(9, 7).resize((width, height), Image.Resampling.BICUBIC)
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(BLUE, (width // 2, 0, width, height // 2))
    return image


def lossless(width: int, height: int) -> bytes:
    """A JPEG of the lossless kind, all of 128: each pixel differs by 0 from what is predicted, which is one bit."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    frame = segment(0xC3, struct.pack(">BHHB", 8, height, width, 1) + bytes([1, 0x11, 0]))
    one_code_of_one_bit = segment(0xC4, bytes([0, 1, *[0] * 15, 0]))
    scan = segment(0xDA, bytes([1, 1, 0, 1, 0, 0])) + bytes(-(-width * height // 8))
    return b"\xff\xd8" + frame + one_code_of_one_bit + scan + b"\xff\xd9"


@pytest.mark.parametrize(
    ("size", "left"),
    [
        ((2 * ENOUGH - 2, 400), (2 * ENOUGH - 2, 400)),
        ((2 * ENOUGH, 2 * ENOUGH), (ENOUGH, ENOUGH)),
        ((2 * ENOUGH + 1, 300), (ENOUGH + 1, 150)),  # the last pixel stands for less than the others
        ((300, 4 * ENOUGH - 2), (150, 2 * ENOUGH - 1)),
        ((4 * ENOUGH, 400), (ENOUGH, 100)),
        ((4 * ENOUGH, 402), (ENOUGH, 101)),
        ((800, 8 * ENOUGH), (100, ENOUGH)),
        ((1600, 100 * ENOUGH), (200, 100 * ENOUGH // 8)),  # libjpeg goes no further
    ],
)
@pytest.mark.parametrize("mode", ["shorter_side", "stretch"])
def test_scale_by_hand(size: tuple[int, int], left: tuple[int, int], mode: str) -> None:
    preprocessing = Preprocessing.model_validate({**TINY.model_dump(), "resize_mode": mode})
    data = encode(Image.new("RGB", size), "JPEG")
    assert open_rgb(data, preprocessing=preprocessing).size == left
    assert open_rgb(data).size == size


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    resize=st.integers(8, 12),
    orientation=st.integers(1, 8),
    mode=st.sampled_from(["shorter_side", "stretch"]),
)
def test_the_picture_is_cut_out_at_the_same_place(
    width: int, height: int, resize: int, orientation: int, mode: str
) -> None:
    across, down = np.linspace(0, 160, width)[None], np.linspace(0, 95, height)[:, None]
    data = encode(
        Image.fromarray((across + down).round().astype(np.uint8)), "JPEG", quality=98, exif=turned_by(orientation)
    )
    preprocessing = Preprocessing.model_validate({"size": 8, "resize": resize, "resize_mode": mode})
    assert np.abs(load(data, preprocessing).astype(int) - prepare(open_rgb(data), preprocessing)).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_of_a_panorama_too(orientation: int) -> None:
    """Only the crop of it is resized. The scale is 1/8, and divides neither side."""
    across, down = np.arange(1101)[None], np.arange(8 * ENOUGH + 1)[:, None]
    waves = np.abs(across % 200 - 100) + np.abs(down - 64)
    data = encode(Image.fromarray(waves.astype(np.uint8)), "JPEG", quality=98, exif=turned_by(orientation))
    assert min(open_rgb(data, preprocessing=TINY).size) == ENOUGH + 1
    assert np.abs(load(data, TINY).astype(int) - prepare(open_rgb(data), TINY)).max() <= 3


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300), resize=st.integers(8, 40))
def test_no_side_gets_shorter_than_what_is_needed(width: int, height: int, resize: int) -> None:
    preprocessing = Preprocessing(size=8, resize=resize)
    image = open_rgb(encode(Image.new("L", (width, height)), "JPEG"), preprocessing=preprocessing)
    assert image.size == (width, height) or min(image.size) >= MARGIN * resize


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("size", "scale"), [((400, 300), 4), ((1600, 1208), 8), ((403, 301), 4)])
def test_a_turned_photo_is_reduced_and_turned(orientation: int, size: tuple[int, int], scale: int) -> None:
    data = encode(picture(*size), "JPEG", exif=turned_by(orientation), quality=95)
    preprocessing = Preprocessing(size=25, resize=25)
    whole, reduced = open_rgb(data), open_rgb(data, preprocessing=preprocessing)
    assert reduced.size == tuple(-(-side // scale) for side in whole.size)
    assert np.abs(prepare(reduced, preprocessing).astype(int) - prepare(whole, preprocessing)).mean() < 2


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_every_kind_of_jpeg_looks_the_same(mode: str, options: dict[str, object]) -> None:
    data = encode(picture(400, 300).convert(mode), "JPEG", **({} if mode == "L" else {"quality": 95}), **options)
    preprocessing = Preprocessing(size=25, resize=25)
    reduced = open_rgb(data, preprocessing=preprocessing)
    assert (reduced.mode, reduced.size) == ("RGB", (100, 75))
    assert np.abs(load(data, preprocessing).astype(int) - prepare(open_rgb(data), preprocessing)).mean() < 2


def test_the_first_of_several_pictures_in_one_file() -> None:
    """As telephones store a photo and its brightness."""
    data = encode(picture(400, 300), "MPO", save_all=True, append_images=[Image.new("RGB", (40, 30))])
    with_one = encode(picture(400, 300), "JPEG")
    preprocessing = Preprocessing(size=25, resize=25)
    assert open_rgb(data, preprocessing=preprocessing).size == (100, 75)
    assert np.array_equal(load(data, preprocessing), load(with_one, preprocessing))


@pytest.mark.parametrize("file_format", ["BMP", "GIF", "PNG", "TIFF", "WEBP"])
def test_other_formats_are_not_touched(file_format: str) -> None:
    data = encode(picture(400, 300), file_format)
    assert open_rgb(data, preprocessing=TINY) == open_rgb(data)


def test_a_tiff_that_holds_a_jpeg_is_not_touched() -> None:
    data = encode(picture(400, 300), "TIFF", compression="jpeg")
    assert open_rgb(data, preprocessing=TINY) == open_rgb(data)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_small_jpeg_is_not_touched(options: dict[str, object]) -> None:
    data = encode(picture(400, 2 * ENOUGH - 1), "JPEG", **options)
    assert open_rgb(data, preprocessing=TINY) == open_rgb(data)


def test_a_lossless_jpeg_is_not_touched() -> None:
    seen = np.asarray(open_rgb(lossless(400, 300), preprocessing=TINY))
    assert seen.shape == (300, 400, 3)
    assert (seen == 128).all()


def test_the_cap_is_on_the_pixels_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Image.new("L", (400, 300)), "JPEG")
    assert open_rgb(data, Limits(max_pixels=120_000), TINY).size == (50, 38)

    def never(*_: object) -> None:
        raise AssertionError("too early")

    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", never)
    with pytest.raises(ImageRejected) as caught:
        open_rgb(data, Limits(max_pixels=119_999), TINY)
    assert caught.value.reason == "bomb"


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_truncated_jpeg_is_rejected_at_every_scale(options: dict[str, object]) -> None:
    data = encode(noise(400, 300), "JPEG", **options)
    with pytest.raises(ImageRejected) as caught:
        load(data[: len(data) // 2], TINY)
    assert caught.value.reason == "truncated"


def test_the_frame_by_hand() -> None:
    assert _frame(b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc0\x00\x0b") == 0xC0  # one byte of filling
    assert _frame(b"\xff\xd8\xff\xc4\x00\x04ab\xff\xc2\x00\x0b") == 0xC2  # a table is no frame
    for odd in (b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8 \xff\xc0\x00\x0b", b"\xff\xd8\xff\xd0\xff\xc0\x00\x0b"):
        assert _frame(odd) is None


@given(st.binary(max_size=60))
def test_the_frame_of_hostile_bytes_is_no_error(rest: bytes) -> None:
    _frame(b"\xff\xd8" + rest)


def test_a_bundle_that_says_nothing_of_scale_decodes_every_pixel() -> None:
    older = read_bundle(Path(__file__).parents[1] / "golden" / "bundle-v1").manifest
    assert older.preprocessing.scale == "whole"
    raw = encode(noise(2048, 1024), "JPEG")
    assert open_rgb(raw, preprocessing=older.preprocessing).size == (2048, 1024)
    newer = older.preprocessing.model_copy(update={"scale": "reduced"})
    assert open_rgb(raw, preprocessing=newer).size != (2048, 1024)


def test_a_part_of_a_reduced_image_is_an_image_like_any_other() -> None:
    reduced = open_rgb(encode(picture(403, 301), "JPEG"), preprocessing=TINY)
    assert reduced.size == (51, 38)
    part = reduced.crop((0, 0, 30, 20))
    assert np.array_equal(prepare(part, TINY), prepare(Image.fromarray(np.asarray(part)), TINY))


def test_an_upright_image_is_not_turned_again() -> None:
    upright = open_rgb(encode(picture(40, 30), "JPEG", exif=turned_by(6)))
    assert upright.size == (30, 40)
    assert upright_rgb(upright) == upright


def test_a_file_cannot_say_where_its_picture_lies() -> None:
    """Pillow puts texts of a PNG beside what it knows of the image itself."""
    texts = PngInfo()
    texts.add_text("picture", "of a bird")
    tagged, plain = (encode(picture(400, 300), "PNG", exif=turned_by(6), **more) for more in ({"pnginfo": texts}, {}))
    assert np.array_equal(load(tagged, TINY), load(plain, TINY))
