"""What a file means (`open_rgb`), what is refused, and what a network sees (`prepare`)."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile
from pydantic import ValidationError

from milvus_fghash.errors import ImageRefused
from milvus_fghash.images import FORMATS, Limits, Preprocessing, load, open_rgb, prepare, read_file, upright_rgb

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    image = open_rgb(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def reason_of(source: Path | bytes, limits: Limits | None = None) -> str:
    with pytest.raises(ImageRefused) as caught:
        open_rgb(source, limits or Limits())
    assert "\n" not in str(caught.value)
    return caught.value.reason


# What a file means


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = Image.new("RGB", (32, 16), BLUE)
    upright.paste(RED, (0, 0, 16, 8))
    # How a camera stores an upright picture under each orientation: the inverse of the turn a viewer makes
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright.transpose(Image.Transpose(turns[orientation])) if orientation > 1 else upright
    shown = pixels_of(encode(stored, file_format, exif=exif, quality=95)).astype(int)
    assert shown.shape == (16, 32, 3)
    assert shown[4, 8] == pytest.approx(RED, abs=12)
    assert shown[4, 24] == pytest.approx(BLUE, abs=12)
    assert shown[12, 8] == pytest.approx(BLUE, abs=12)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_an_image_that_is_only_open_is_turned_once_too(file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(noise(8, 5), file_format, exif=exif)
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
def test_grey_beyond_16_bits_is_refused(value: int) -> None:
    assert reason_of(encode(Image.fromarray(np.full((2, 2), value, np.int32)), "TIFF")) == "format"


def test_floating_point_pixels_are_refused() -> None:
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


# What is refused


def test_missing_file(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "none.jpg") == "missing"


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert reason_of(tmp_path / "empty.jpg") == "empty"
    assert reason_of(b"") == "empty"


def test_text_named_jpg(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("this is no photo")
    assert reason_of(tmp_path / "text.jpg") == "format"


def test_folder_pipe_and_odd_paths(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "file").touch()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    for path in ("", "pipe.jpg", "file/a.jpg", "a\0b.jpg", "a" * 300, "loop.jpg"):
        assert reason_of(tmp_path / path) == "broken", path


def test_message_of_a_name_that_is_not_utf8_can_be_printed(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused) as caught:
        open_rgb(tmp_path / "caf\udce9.jpg")
    assert "caf\\udce9.jpg" in str(caught.value).encode().decode()


@pytest.mark.parametrize("file_format", ["BMP", "GIF", "JPEG", "PNG", "TIFF"])
def test_truncated(file_format: str) -> None:
    data = encode(noise(64, 48), file_format)
    assert reason_of(data[: len(data) // 2]) == "truncated"


def test_truncated_webp() -> None:
    data = encode(noise(64, 48), "WEBP")
    assert reason_of(data[: len(data) // 2]) == "broken"  # its decoder does not say what is wrong


def test_pixel_cap_holds_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    data = encode(Image.new("L", (20, 11)))
    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    assert reason_of(data, Limits(max_pixels=219)) == "bomb"


def test_pixel_cap_is_inclusive() -> None:
    assert open_rgb(encode(Image.new("L", (20, 11))), Limits(max_pixels=220)).size == (20, 11)


def test_header_that_claims_a_billion_pixels() -> None:
    png = bytearray(encode(Image.new("1", (8, 8))))
    png[16:24] = (40_000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    assert reason_of(bytes(png)) == "bomb"
    bmp = bytearray(encode(Image.new("RGB", (8, 8)), "BMP"))
    bmp[18:26] = (40_000).to_bytes(4, "little") * 2
    assert reason_of(bytes(bmp)) == "bomb"


def test_between_pillows_warning_and_our_cap_nothing_is_said() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    side = int(Image.MAX_IMAGE_PIXELS**0.5) + 1
    assert side * side < Limits().max_pixels
    assert open_rgb(encode(Image.new("1", (side, side)))).size == (side, side)  # a warning would be an error here


def test_byte_cap(tmp_path: Path) -> None:
    data = encode(noise(8, 8))
    (tmp_path / "a.png").write_bytes(data)
    for source in (data, tmp_path / "a.png"):
        assert reason_of(source, Limits(max_bytes=len(data) - 1)) == "too-large"
        assert open_rgb(source, Limits(max_bytes=len(data))).size == (8, 8)


def test_only_allowed_formats() -> None:
    assert reason_of(encode(noise(8, 8), "PPM")) == "format"
    assert reason_of(encode(noise(8, 8), "EPS")) == "format"
    assert reason_of(encode(noise(8, 8), "PNG"), Limits(formats=("JPEG",))) == "format"


@pytest.mark.parametrize("formats", [("EPS",), ("jpeg",), ()])
def test_formats_that_cannot_be_allowed(formats: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="allowed"):
        Limits(formats=formats)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_hostile_bytes_are_refused_or_decoded(file_format: str, data: st.DataObject) -> None:
    whole = bytearray(encode(noise(16, 12), file_format))
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers, where most faults lie, are short
        place = data.draw(st.integers(0, min(len(whole), 120) - 1) | st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    try:
        seen = open_rgb(bytes(whole), Limits(max_pixels=1_000_000)).mode
    except ImageRefused as refused:
        seen = refused.reason
    assert seen in {"RGB", "format", "truncated", "bomb", "broken"}


@pytest.mark.parametrize("fault", [MemoryError(), OverflowError("x"), SyntaxError("x"), ValueError("x")])
def test_whatever_a_decoder_raises_is_a_refusal(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ImageFile.ImageFile) -> None:
        raise fault

    data = encode(noise(8, 8))
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    assert reason_of(data) == "broken"


def test_threads_decode_the_same() -> None:
    data = [encode(noise(40, n), "JPEG") for n in range(20, 36)]
    seen: dict[int, tuple[int, int]] = {}
    threads = [threading.Thread(target=lambda n=n: seen.update({n: open_rgb(data[n]).size})) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {n: (40, 20 + n) for n in range(16)}


# What a network sees


def torchvision_view(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    transforms = pytest.importorskip("torchvision.transforms")
    side = preprocessing.resize
    size: int | tuple[int, int] = (side, side) if preprocessing.resize_mode == "stretch" else side
    resize = transforms.Resize(size, transforms.InterpolationMode(preprocessing.interpolation))
    return np.asarray(transforms.CenterCrop(preprocessing.size)(resize(image)))


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    sides=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    mode=st.sampled_from(["shorter_side", "stretch"]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_same_pixels_as_torchvision(
    width: int, height: int, sides: tuple[int, int], mode: str, interpolation: str
) -> None:
    view = {"size": min(sides), "resize": max(sides), "resize_mode": mode, "interpolation": interpolation}
    preprocessing = Preprocessing.model_validate(view)
    image = noise(width, height)
    ours, theirs = prepare(image, preprocessing), torchvision_view(image, preprocessing)
    if mode == "stretch" or max(width, height) <= 8 * min(width, height):
        assert (ours == theirs).all()
    else:  # rounded differently between the directions; a shift by a pixel would differ by tens
        assert np.abs(ours.astype(int) - theirs).mean() < 3


def test_shorter_side_and_crop_by_hand() -> None:
    # 20 x 10, columns 10-19 white -> 16 x 8 -> the middle 8 columns, 4 to 11: white from column 8 on
    image = Image.new("RGB", (20, 10))
    image.paste("white", (10, 0, 20, 10))
    seen = prepare(image, Preprocessing(size=8, resize=8))
    assert seen.shape == (8, 8, 3)
    assert (seen[:, :3] == 0).all()
    assert (seen[:, 5:] == 255).all()


@pytest.mark.parametrize("turn", [False, True])
def test_a_long_thin_image_takes_little_memory(turn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    resize: Callable[..., Image.Image] = Image.Image.resize

    def watch(image: Image.Image, size: tuple[int, int], *args: object, **options: object) -> Image.Image:
        made.append(size)
        return resize(image, size, *args, **options)

    monkeypatch.setattr(Image.Image, "resize", watch)
    image = noise(1, 20_000)
    seen = prepare(image.transpose(Image.Transpose.ROTATE_90) if turn else image, Preprocessing())
    assert made == [(224, 224)]
    assert seen.shape == (224, 224, 3)


def test_prepared_pixels_are_ours_to_change() -> None:
    seen = prepare(noise(30, 30), Preprocessing(size=8, resize=9))
    assert seen.flags.c_contiguous
    assert seen.flags.writeable


def test_crop_larger_than_the_resized_photo_is_refused() -> None:
    with pytest.raises(ValidationError, match="crop would not fit"):
        Preprocessing(size=224, resize=200)
