"""One folder with every kind of odd photo, through all of ingest: what can be shown gets in, the rest is named."""

from __future__ import annotations

import json
from pathlib import Path

from pymilvus import MilvusClient

from milvus_fghash.core.images import Limits
from milvus_fghash.datasets.read import read
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.ingest.api import IngestOptions, RunContext, ingest
from milvus_fghash.milvus.collection import HashCollection
from tests.helpers.odd_photos import REJECTED, TAKEN


def test_each_odd_photo_is_taken_or_named(bundle: Path, lite: MilvusClient, new_name: str, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, raw in {**TAKEN, **{name: raw for name, (raw, _) in REJECTED.items()}}.items():
        (folder / name).write_bytes(raw)
    encoder = Encoder.open(bundle)
    collection = HashCollection.create(lite, new_name, encoder.bundle.manifest)
    report = tmp_path / "rejected.jsonl"
    options = IngestOptions(limits=Limits(max_pixels=39_999))
    result = ingest(encoder, read("folder", folder), collection, RunContext(options=options, report=report))
    assert {one["path"]: one["reason"] for one in map(json.loads, report.read_text().splitlines())} == {
        name: reason for name, (_, reason) in REJECTED.items()
    }
    assert (result.stored, result.rejected, result.rows_in_collection) == (len(TAKEN), len(REJECTED), len(TAKEN))
    (rows,) = collection.scan()
    assert sorted(rows.paths) == sorted(TAKEN)
