"""Which files are rejected, and why."""

from __future__ import annotations

import os
import threading
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from pydantic import ValidationError

from milvus_fghash.core.image_formats import FORMATS
from milvus_fghash.core.images import Limits, open_rgb
from milvus_fghash.errors import ImageRejected
from tests.helpers.image_bytes import encode, noise, reason_of


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


def test_a_giant_file_is_rejected_by_its_size_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "giant.png", "wb") as file:
        file.truncate(10 * 1024**3)  # takes no room
    monkeypatch.setattr("builtins.open", None)
    assert reason_of(tmp_path / "giant.png") == "too-large"


def test_message_of_a_name_that_is_not_utf8_can_be_printed(tmp_path: Path) -> None:
    with pytest.raises(ImageRejected) as caught:
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
def test_hostile_bytes_are_rejected_or_decoded(file_format: str, data: st.DataObject) -> None:
    whole = bytearray(encode(noise(16, 12), file_format))
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers, where most faults lie, are short
        place = data.draw(st.integers(0, min(len(whole), 120) - 1) | st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    try:
        seen = open_rgb(bytes(whole), Limits(max_pixels=1_000_000)).mode
    except ImageRejected as rejected:
        seen = rejected.reason
    assert seen in {"RGB", "format", "truncated", "bomb", "broken"}


@pytest.mark.parametrize("fault", [MemoryError(), OverflowError("x"), SyntaxError("x"), ValueError("x")])
def test_whatever_a_decoder_raises_is_a_rejection(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
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
