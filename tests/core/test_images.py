"""What a file means: `open_rgb` by its rules."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milvus_fghash.core.image_formats import FORMATS
from milvus_fghash.core.images import Preprocessing, load, open_rgb, read_file, upright_rgb
from tests.helpers.image_bytes import BLUE, RED, encode, noise, pixels_of, reason_of, turned_by


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int, file_format: str) -> None:
    upright = Image.new("RGB", (32, 16), BLUE)
    upright.paste(RED, (0, 0, 16, 8))
    # How a camera stores an upright picture under each orientation: the inverse of the turn a viewer makes
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(turns[orientation])) if orientation > 1 else upright
    shown = pixels_of(encode(stored, file_format, exif=turned_by(orientation), quality=95)).astype(int)
    assert shown.shape == (16, 32, 3)
    assert shown[4, 8] == pytest.approx(RED, abs=12)
    assert shown[4, 24] == pytest.approx(BLUE, abs=12)
    assert shown[12, 8] == pytest.approx(BLUE, abs=12)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_an_image_that_is_only_open_is_turned_once_too(file_format: str) -> None:
    data = encode(noise(8, 5), file_format, exif=turned_by(6))
    assert (np.asarray(upright_rgb(Image.open(io.BytesIO(data)))) == pixels_of(data)).all()
    assert open_rgb(data).size == (5, 8)


@pytest.mark.parametrize(
    "exif",
    [
        b"not a TIFF header",
        b"II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0112, 2, 4, b"abc\0", 0),  # the orientation as text
        b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, 9, 0),  # a ninth orientation
    ],
)
def test_damaged_exif_does_not_lose_a_good_photo(exif: bytes) -> None:
    assert open_rgb(encode(noise(8, 5), "JPEG", exif=b"Exif\0\0" + exif)).size == (8, 5)


def test_grey_fills_three_channels() -> None:
    assert pixels_of(encode(Image.new("L", (2, 2), 77))).tolist() == [[[77] * 3] * 2] * 2


def test_black_and_white() -> None:
    assert pixels_of(encode(Image.new("1", (1, 1), 1))).tolist() == [[[255, 255, 255]]]


def test_palette_is_looked_up_before_resizing() -> None:
    stripes = Image.new("P", (64, 64))
    stripes.putpalette([*RED, *BLUE])
    stripes.paste(1, (32, 0, 64, 64))
    seen = load(encode(stripes), Preprocessing(size=9, resize=9))
    # The middle column is half red, half blue; without the look-up it would be one of them
    assert seen[4, 4].tolist() == pytest.approx([128, 0, 128], abs=1)


def test_transparent_palette_colour_becomes_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    assert pixels_of(encode(image, transparency=1)).tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_alpha_is_composited_on_white() -> None:
    image = Image.new("RGBA", (3, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 51))  # 20 % black on white: 0.8 x 255 = 204
    assert pixels_of(encode(image)).tolist() == [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]]


def test_grey_with_alpha() -> None:
    assert pixels_of(encode(Image.new("LA", (1, 1), (0, 0)))).tolist() == [[[255, 255, 255]]]


def test_colour_named_transparent_becomes_white() -> None:
    assert pixels_of(encode(Image.new("RGB", (1, 1), RED), transparency=RED)).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk(file_format: str) -> None:
    magenta = Image.new("CMYK", (16, 16), (0, 255, 0, 0))
    data = encode(magenta, file_format)  # Pillow writes CMYK JPEG inverted and with Adobe's mark, as Photoshop does
    assert file_format != "JPEG" or b"Adobe" in data
    assert pixels_of(data)[8, 8].astype(int) == pytest.approx([255, 0, 255], abs=3)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(file_format: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    seen = pixels_of(encode(Image.fromarray(values), file_format))
    # 128 / 257 rounds to 0, 129 / 257 to 1, 32768 / 257 = 127.5019 to 128
    assert seen[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert (seen == seen[..., :1]).all()


def test_16_bit_grey_with_a_transparent_value() -> None:
    data = encode(Image.fromarray(np.array([[1000, 2570]], np.uint16)), transparency=1000)
    assert pixels_of(data)[0, :, 0].tolist() == [255, 10]


@pytest.mark.parametrize("value", [-1, 70_000])
def test_grey_beyond_16_bits_is_rejected(value: int) -> None:
    assert reason_of(encode(Image.fromarray(np.full((2, 2), value, np.int32)), "TIFF")) == "format"


def test_floating_point_pixels_are_rejected() -> None:
    assert reason_of(encode(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF")) == "format"


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(file_format: str) -> None:
    frames = [Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)]
    data = encode(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert pixels_of(data)[4, 4].astype(int) == pytest.approx(RED, abs=3)


@pytest.mark.parametrize("file_format", FORMATS)
def test_one_pixel(file_format: str) -> None:
    data = encode(Image.new("RGB", (1, 1), (200, 100, 50)), file_format)
    seen = load(data, Preprocessing(size=8, resize=8))
    assert seen.shape == (8, 8, 3)
    assert (seen == seen[0, 0]).all()


def test_path_and_bytes_give_the_same(tmp_path: Path) -> None:
    data = encode(noise(20, 30), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_file(tmp_path / "a.jpg") == data
    assert (np.asarray(open_rgb(tmp_path / "a.jpg")) == pixels_of(data)).all()
