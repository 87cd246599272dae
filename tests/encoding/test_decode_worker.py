"""What a worker may take, loads and understands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from milvus_fghash.core.images import DEFAULT_LIMITS, Limits, Preprocessing
from milvus_fghash.datasets.sources.location import PhotoLocation
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import Photo, Rejected, decode
from milvus_fghash.encoding.decode_worker import (
    BASE_MEMORY,
    BYTES_PER_PIXEL,
    memory_for,
    source_from_bytes,
    source_to_bytes,
)
from tests.helpers.decoders import SMALL, Processes, summary
from tests.helpers.image_bytes import encode, noise, turned_by

pytestmark = pytest.mark.full


@pytest.mark.usefixtures("failing")
@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep to no such limit")
def test_a_photo_that_fills_the_memory_is_rejected_and_the_worker_goes_on(tmp_path: Path, started: Processes) -> None:
    (tmp_path / "bomb.png").write_bytes(encode(Image.new("RGB", (8000, 8000))))  # 256 MB
    (tmp_path / "good.png").write_bytes(encode(Image.new("RGB", (8, 8), (7, 7, 7))))
    paths = [tmp_path / name for name in ("good.png", "bomb.png", "good.png")]
    decoded = list(decode(paths, SMALL, DecodeOptions(workers=1)))
    assert summary(iter(decoded)) == [7, "broken", 7]
    assert isinstance(decoded[1], Rejected)
    assert "MemoryError" in decoded[1].message
    assert len(started) == 1


TURNED = turned_by(6)


@pytest.mark.parametrize(
    "raw",
    [
        encode(noise(1500, 1000).convert("RGBA"), "WEBP", exif=TURNED, method=0),
        encode(noise(1500, 1000).convert("RGBA"), "PNG", exif=TURNED, compress_level=1),
        encode(noise(1500, 1000).convert("CMYK"), "JPEG", progressive=True, exif=TURNED),
        encode(Image.new("I;16", (1500, 1000)), "PNG", transparency=3),
    ],
    ids=["webp", "png", "jpeg", "16-bit"],
)
def test_a_photo_at_the_limit_is_not_short_of_memory(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(raw)
    limits = Limits(max_pixels=1_500_000, max_bytes=len(raw))
    (photo,) = decode([tmp_path / "photo"], Preprocessing(), DecodeOptions(limits=limits, workers=1))
    assert isinstance(photo, Photo)


def test_memory_worked_by_hand() -> None:
    assert memory_for(Limits(max_pixels=1000, max_bytes=7)) == BASE_MEMORY + 1000 * BYTES_PER_PIXEL + 14
    assert memory_for(DEFAULT_LIMITS) == 3_500_000_000


@given(st.text(st.characters(codec=None)).map(Path))
def test_any_path_comes_through(path: Path) -> None:
    assert source_from_bytes(source_to_bytes(path)) == path


@given(st.builds(PhotoLocation, st.text(), st.text(), st.text(), zipped=st.none() | st.tuples(*[st.integers(0)] * 3)))
def test_any_place_comes_through(place: PhotoLocation) -> None:
    assert source_from_bytes(source_to_bytes(place)) == place


def test_what_codecs_say_of_a_photo_is_not_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    raw = encode(noise(40, 40), "TIFF", compression="tiff_lzw")
    damaged = raw[:100] + b"\xff\0" * 500 + raw[1100:]  # libtiff: Using code not yet in table
    (tmp_path / "damaged.tif").write_bytes(damaged)
    assert summary(decode([tmp_path / "damaged.tif"], SMALL, DecodeOptions(workers=1))) == ["broken"]
    assert capfd.readouterr() == ("", "")


def test_a_worker_loads_little() -> None:
    probe = "import milvus_fghash.encoding.decode_worker, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    assert {"numpy", "PIL", "pydantic"} <= set(loaded)
    assert not {"onnxruntime", "pymilvus", "grpc", "torch", "rich", "click"} & set(loaded)
