"""HEIC and AVIF, which most phones write: what is shown, what is rejected, and where their extra is not installed."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from milvus_fghash.core.image_formats import SUFFIXES
from milvus_fghash.core.images import Limits, Preprocessing, open_rgb
from milvus_fghash.datasets.read import read
from milvus_fghash.encoding import decode_pool
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import Photo, decode
from milvus_fghash.errors import ImageRejected
from tests.helpers.archives import tar_of
from tests.helpers.decoders import SMALL, summary
from tests.helpers.image_bytes import RED, encode, noise, pixels_of, reason_of, turned_by
from tests.helpers.small_catalog import Catalog

pytestmark = pytest.mark.full

BOTH = pytest.mark.parametrize("file_format", ["AVIF", "HEIF"])
WHOLE: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "HEIF": {"quality": -1, "chroma": 444},
}
"""Options for all of the colours."""


def written(image: Image.Image, file_format: str, **options: object) -> bytes:
    return encode(image, file_format, **WHOLE[file_format], **options)


@BOTH
def test_colours_grey_and_alpha(file_format: str) -> None:
    photo = noise(40, 30)
    assert np.abs(pixels_of(written(photo, file_format)).astype(int) - np.asarray(photo)).max() <= 4
    half = Image.new("RGBA", (16, 16), (255, 0, 0, 51))  # 20 % red on white
    assert pixels_of(written(half, file_format))[8, 8].astype(int) == pytest.approx([255, 204, 204], abs=4)
    grey = written(Image.new("L", (16, 16), 77), file_format)
    assert pixels_of(grey)[8, 8].astype(int) == pytest.approx([77, 77, 77], abs=2)


def test_alpha_that_the_colours_are_multiplied_by() -> None:
    half = Image.new("RGBA", (16, 16), (255, 0, 0, 51))
    for data in (
        encode(half, "AVIF", quality=100, alpha_premultiplied=True),
        encode(half.convert("RGBa"), "HEIF", quality=-1, chroma=444),
    ):
        assert pixels_of(data)[8, 8].astype(int) == pytest.approx([255, 204, 204], abs=4)


def test_ten_bits_are_reduced() -> None:
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8).repeat(4, 0).repeat(4, 1)
    seen = pixels_of(written(Image.fromarray(levels), "HEIF"))
    assert np.abs(seen[..., 0].astype(int) - levels // 257).max() <= 2
    assert seen[0, 0].tolist() == [0, 0, 0]
    assert seen[-1, -1].tolist() == [255, 255, 255]


def test_of_several_images_the_primary_one_is_shown() -> None:
    frames = [Image.new("RGB", (16, 16), RED), Image.new("RGB", (32, 32), "lime")]
    data = encode(frames[0], "HEIF", save_all=True, append_images=frames[1:], primary_index=1)
    assert open_rgb(data).size == (32, 32)
    assert pixels_of(data)[8, 8].astype(int) == pytest.approx([0, 255, 0], abs=4)
    moving = encode(frames[0], "AVIF", save_all=True, append_images=[Image.new("RGB", (16, 16), "lime")])
    assert pixels_of(moving)[8, 8].astype(int) == pytest.approx(RED, abs=4)


@BOTH
def test_exif_does_not_turn_what_the_container_does_not(file_format: str) -> None:
    data = encode(noise(16, 24), file_format, exif=turned_by(6))
    assert open_rgb(data).size == (24, 16)
    angle = data.index(b"irot") + 4
    assert open_rgb(data[:angle] + b"\0" + data[angle + 1 :]).size == (16, 24)


@BOTH
@pytest.mark.parametrize("brand", [b"mif1", b"msf1"])
def test_a_brand_that_both_may_have_first(brand: bytes, file_format: str) -> None:
    data = encode(noise(16, 12), file_format)
    assert open_rgb(data[:8] + brand + data[12:]).size == (16, 12)


@BOTH
def test_what_is_cut_off(file_format: str) -> None:
    data = encode(noise(64, 48), file_format)
    assert reason_of(data[:-10]) == "truncated"
    for end in (12, 40, len(data) // 2):
        assert reason_of(data[:end]) in {"truncated", "broken"}, end


@BOTH
def test_caps_hold_before_anything_is_decoded(file_format: str) -> None:
    data = encode(noise(40, 30), file_format)
    assert open_rgb(data, Limits(max_pixels=1200)).size == (40, 30)
    assert reason_of(data, Limits(max_pixels=1199)) == "bomb"
    assert reason_of(data, Limits(max_bytes=len(data) - 1)) == "too-large"
    assert reason_of(data, Limits(formats=("JPEG",))) == "format"
    place = data.index(b"ispe") + 8  # a giant behind a small picture
    assert reason_of(data[:place] + struct.pack(">II", 30_000, 30_000) + data[place + 8 :]) == "bomb"


@BOTH
def test_a_small_worker_decodes_them(file_format: str, tmp_path: Path) -> None:
    raw = encode(noise(600, 400).convert("RGBA"), file_format, exif=turned_by(6), quality=50)
    (tmp_path / "photo").write_bytes(raw)
    limits = Limits(max_pixels=600 * 400, max_bytes=len(raw))
    (photo,) = decode([tmp_path / "photo"], Preprocessing(), DecodeOptions(limits=limits, workers=1))
    assert isinstance(photo, Photo)


MANY_CORES = """
import os, sys
from milvus_fghash.encoding import decode_worker

os.sched_getaffinity = lambda pid: set(range(128))
decode_worker.main(*sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep to no such limit")
def test_a_worker_on_a_machine_of_many_cores_has_the_memory_for_an_avif(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread of a decoder would count with its whole stack."""
    monkeypatch.setattr(decode_pool, "WORKER", ("-c", MANY_CORES))
    raw = encode(noise(64, 48), "AVIF")
    (tmp_path / "photo").write_bytes(raw)
    limits = Limits(max_pixels=64 * 48, max_bytes=len(raw))
    (photo,) = decode([tmp_path / "photo"], SMALL, DecodeOptions(limits=limits, workers=1))
    assert isinstance(photo, Photo)


def test_phones_names_are_listed_in_folders_and_archives(tmp_path: Path) -> None:
    names = ["0.HEIC", "1.heif", "2.hif", "3.avif", "4.jfif", "5.jpe"]
    (tmp_path / "folder").mkdir()
    for name in [*names, "6.mov", "7.txt"]:
        (tmp_path / "folder" / name).write_bytes(b"x")
    (tmp_path / "phone.tar").write_bytes(tar_of(dict.fromkeys([*names, "6.mov"], b"x")))
    assert list(read("folder", tmp_path / "folder").paths) == names
    assert list(read("archive", tmp_path / "phone.tar").paths) == names
    assert {Path(name).suffix.lower() for name in names} <= SUFFIXES


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)


@pytest.mark.usefixtures("without_heif")
def test_without_the_extra_each_is_rejected_with_its_name(tmp_path: Path) -> None:
    data = encode(noise(16, 12), "HEIF")
    with pytest.raises(ImageRejected, match=r"HEIC format; to open it: pip install 'milvus-fghash\[heif\]'") as caught:
        open_rgb(data)
    assert caught.value.reason == "extra"
    assert open_rgb(encode(noise(16, 12), "AVIF")).size == (16, 12)


@pytest.mark.parametrize("support", ["none", "off"])
def test_a_pillow_without_avif(support: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 11.3 there is no module, and some are built without the decoder."""
    assert features.check("avif")
    data = encode(noise(16, 12), "AVIF")
    if support == "none":
        monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
    else:
        monkeypatch.setattr("PIL.AvifImagePlugin.SUPPORTED", False)
    with pytest.raises(ImageRejected, match=r"AVIF format; .*milvus-fghash\[heif\]") as caught:
        open_rgb(data)
    assert caught.value.reason == "extra"
    assert open_rgb(encode(noise(16, 12))).size == (16, 12)


def test_once_the_extra_is_there_the_next_run_takes_them(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, messages = tmp_path / "rejected.jsonl", list[str]()
    (catalog.photos / "IMG_1.HEIC").write_bytes(encode(noise(16, 12), "HEIF"))
    with monkeypatch.context() as lacking:
        lacking.setitem(sys.modules, "pi_heif", None)
        first = catalog.ingest(report=report, notify=messages.append)
        assert (first.rejected, json.loads(report.read_text())["reason"]) == (1, "extra")
    assert [line for line in messages if "heif" in line] == [
        "photos rejected as HEIC or AVIF: 1; to take them: pip install 'milvus-fghash[heif]', and run it again"
    ]
    second = catalog.ingest()
    assert (second.stored, second.rejected) == (1, 0)


def test_workers_decode_what_a_person_would_see(tmp_path: Path) -> None:
    grey = Image.new("RGB", (16, 16), (77, 77, 77))
    for name, file_format in (("0.avif", "AVIF"), ("1.heic", "HEIF")):
        (tmp_path / name).write_bytes(written(grey, file_format))
    (tmp_path / "2.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    seen = summary(decode(sorted(tmp_path.iterdir()), SMALL, DecodeOptions(workers=1)))
    assert seen == [pytest.approx(77, abs=2), pytest.approx(77, abs=2), "broken"]
