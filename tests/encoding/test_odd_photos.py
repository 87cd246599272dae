"""One folder with every kind of odd photo, through all of ingest: what can be shown gets in, the rest is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pymilvus import MilvusClient

from milvus_fghash.core.images import Limits
from milvus_fghash.datasets.read import read
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.ingest.api import IngestOptions, ingest
from milvus_fghash.milvus.collection import HashCollection
from tests.helpers.image_bytes import encode, noise, turned_by

TALL = Image.fromarray(np.repeat(np.array([[[255, 0, 0]], [[0, 0, 255]]], np.uint8), 24, axis=0).repeat(32, axis=1))
TURNED = turned_by(6)
LEVELS = Image.fromarray(np.linspace(0, 65535, 32 * 24).reshape(24, 32).astype(np.uint16))

TAKEN = {
    "1-pixel.png": encode(Image.new("RGB", (1, 1), "red")),
    "cmyk.jpg": encode(noise(32, 24).convert("CMYK"), "JPEG"),
    "palette.png": encode(noise(32, 24).quantize(16)),
    "16-bit.png": encode(LEVELS),
    "animated.gif": encode(noise(32, 24), "GIF", save_all=True, append_images=[Image.new("RGB", (32, 24))]),
    "exif.jpg": encode(TALL.rotate(90, expand=True), "JPEG", exif=TURNED, quality=95),
    "grey.jpg": encode(noise(32, 24).convert("L"), "JPEG"),
    "transparent.webp": encode(noise(32, 24).convert("RGBA"), "WEBP"),
}
REJECTED = {
    "text.jpg": (b"this is no photo", "format"),
    "cut.jpg": (encode(noise(64, 48), "JPEG")[:2000], "truncated"),
    "zero.jpg": (b"", "empty"),
    "bomb.png": (encode(Image.new("1", (200, 200))), "bomb"),
    "float.tiff": (encode(Image.new("F", (8, 8)), "TIFF"), "format"),
}


def test_each_odd_photo_is_taken_or_named(bundle: Path, lite: MilvusClient, new_name: str, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, raw in {**TAKEN, **{name: raw for name, (raw, _) in REJECTED.items()}}.items():
        (folder / name).write_bytes(raw)
    encoder = Encoder.open(bundle)
    collection = HashCollection.create(lite, new_name, encoder.bundle.manifest)
    report = tmp_path / "rejected.jsonl"
    options = IngestOptions(limits=Limits(max_pixels=39_999))
    result = ingest(encoder, read("folder", folder), collection, options=options, report=report)
    assert {one["path"]: one["reason"] for one in map(json.loads, report.read_text().splitlines())} == {
        name: reason for name, (_, reason) in REJECTED.items()
    }
    assert (result.stored, result.rejected, result.rows_in_collection) == (len(TAKEN), len(REJECTED), len(TAKEN))
    (rows,) = collection.scan()
    assert sorted(rows.paths) == sorted(TAKEN)
