"""Photos into Milvus Lite: all that can be read get in, the rest is reported, and twice is once."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pymilvus import MilvusClient

from milvus_fghash.core.images import Limits
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError, DataError, StoreError
from milvus_fghash.ingest.api import IngestOptions, RunContext, ingest
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import photo_id
from milvus_fghash.search.search import SearchParams, search_file
from tests.helpers.decoders import Processes
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_catalog import Catalog

pytestmark = pytest.mark.full

N = 30


@pytest.fixture
def photos(tmp_path: Path) -> Dataset:
    """30 pictures of random colours in 3 classes."""
    root = tmp_path / "photos"
    colours = np.random.default_rng(0).integers(0, 256, (N, 3))
    paths = tuple(f"class {row % 3}/{row}.png" for row in range(N))
    for path, colour in zip(paths, colours, strict=True):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), tuple(int(value) for value in colour)).save(root / path)
    labels = tuple(path.split("/")[0] for path in paths)
    return Dataset(root, paths, paths, labels, tuple("train" if row % 2 else "" for row in range(N)))


@pytest.fixture
def encoder(bundle: Path) -> Encoder:
    return Encoder.open(bundle)


@pytest.fixture
def collection(lite: MilvusClient, new_name: str, encoder: Encoder) -> HashCollection:
    return HashCollection.create(lite, new_name, encoder.bundle.manifest)


def test_every_column_is_right(encoder: Encoder, photos: Dataset, collection: HashCollection) -> None:
    result = ingest(encoder, photos, collection, RunContext(namespace="shop", options=IngestOptions(rows_per_write=7)))
    assert (result.stored, result.rejected, result.rows_in_collection) == (N, 0, N)
    rows = collection.get([photo_id("shop", path) for path in photos.paths])
    assert rows.codes.tolist() == encoder.encode_files([photos.file(row) for row in range(N)]).codes.tolist()
    assert (rows.paths, rows.labels) == (photos.paths, photos.labels)
    assert rows.content_shas[4] == hashlib.sha256(photos.file(4).read_bytes()).hexdigest()
    assert rows.metas[4] == {"namespace": "shop"}
    assert rows.metas[5] == {"namespace": "shop", "split": "train"}


def test_a_second_run_and_a_moved_folder_add_nothing(
    encoder: Encoder, photos: Dataset, collection: HashCollection, tmp_path: Path
) -> None:
    ingest(encoder, photos, collection)
    assert ingest(encoder, photos, collection).rows_in_collection == N
    moved = tmp_path / "elsewhere"
    shutil.move(photos.root, moved)
    again = Dataset(moved, photos.ids, photos.paths, photos.labels, photos.splits)
    assert ingest(encoder, again, collection).rows_in_collection == N
    assert ingest(encoder, again, collection, RunContext(namespace="another")).rows_in_collection == 2 * N


def test_rejected_files_are_reported_and_the_others_get_in(
    encoder: Encoder, photos: Dataset, collection: HashCollection, tmp_path: Path
) -> None:
    photos.file(2).write_bytes(b"")
    photos.file(3).write_text("text named .png")
    Image.effect_noise((30, 30), 50).save(photos.file(5))
    photos.file(5).write_bytes(photos.file(5).read_bytes()[:500])
    photos.file(7).unlink()
    Image.new("RGB", (200, 200)).save(photos.file(11))
    report = tmp_path / "reports" / "rejected.jsonl"
    options = IngestOptions(rows_per_write=4, limits=Limits(max_pixels=1000))
    result = ingest(encoder, photos, collection, RunContext(options=options, report=report))
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    wanted = [(2, "empty"), (3, "format"), (5, "truncated"), (7, "missing"), (11, "bomb")]
    assert {(line["path"], line["reason"]) for line in lines} == {(photos.paths[row], why) for row, why in wanted}
    assert len(lines) == len(wanted)
    assert all(line["message"] for line in lines)
    assert result.rejected == 5
    assert result.reasons == {why: 1 for _, why in wanted}
    assert result.stored == result.rows_in_collection == N - 5


def test_a_name_that_does_not_fit_stops_only_itself(
    encoder: Encoder, photos: Dataset, collection: HashCollection, tmp_path: Path
) -> None:
    labels = ("x" * 2000, *photos.labels[1:])
    long = Dataset(photos.root, photos.ids, photos.paths, labels, photos.splits)
    result = ingest(encoder, long, collection, RunContext(report=tmp_path / "rejected.jsonl"))
    assert (result.stored, result.reasons) == (N - 1, {"name": 1})


def test_a_file_name_that_is_no_utf8_stops_only_itself(
    encoder: Encoder, photos: Dataset, collection: HashCollection, tmp_path: Path
) -> None:
    strange = "caf\udce9.png"
    photos.file(0).rename(photos.root / strange)
    paths = (strange, *photos.paths[1:])
    result = ingest(
        encoder,
        Dataset(photos.root, paths, paths, photos.labels, photos.splits),
        collection,
        RunContext(report=tmp_path / "rejected.jsonl"),
    )
    assert (result.stored, result.reasons) == (N - 1, {"name": 1})
    assert json.loads((tmp_path / "rejected.jsonl").read_text())["path"] == strange


def test_a_link_that_leads_out_of_the_folder_is_rejected_unless_it_is_followed(
    catalog: Catalog, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.png"
    Image.new("RGB", (20, 20), "red").save(outside)
    (catalog.photos / "link.png").symlink_to(outside)
    (catalog.photos / "twin.png").symlink_to("00.png")
    result = catalog.ingest(report=tmp_path / "rejected.jsonl")
    assert (result.stored, result.reasons) == (len(list(catalog.photos.iterdir())) - 1, {"outside": 1})
    assert "follow links to read it" in (tmp_path / "rejected.jsonl").read_text()
    followed = catalog.ingest(IngestOptions(rows_per_write=8, workers=0, follow_links=True))
    assert (followed.stored, followed.rejected) == (1, 0)
    assert "link.png" in catalog.contents()


def test_nothing_rejected_leaves_an_empty_report(
    encoder: Encoder, photos: Dataset, collection: HashCollection, tmp_path: Path
) -> None:
    ingest(encoder, photos, collection, RunContext(report=tmp_path / "rejected.jsonl"))
    assert (tmp_path / "rejected.jsonl").read_bytes() == b""


def test_a_report_that_cannot_be_written_is_known_before_the_work(
    encoder: Encoder, photos: Dataset, collection: HashCollection, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        ingest(encoder, photos, collection, RunContext(report=tmp_path / "file" / "rejected.jsonl"))
    assert collection.count() == 0


def test_progress_counts_every_file(encoder: Encoder, photos: Dataset, collection: HashCollection) -> None:
    photos.file(2).write_bytes(b"")
    seen: list[tuple[int, int]] = []
    ingest(encoder, photos, collection, RunContext(progress=lambda done, total: seen.append((done, total))))
    assert seen == sorted(seen)
    assert seen[-1] == (N, N)


def test_an_interrupted_run_leaves_whole_batches_and_its_report(
    encoder: Encoder, photos: Dataset, collection: HashCollection, tmp_path: Path
) -> None:
    photos.file(2).write_bytes(b"")

    def interrupt(done: int, _total: int) -> None:
        if done > 16:
            raise KeyboardInterrupt

    options, report = IngestOptions(rows_per_write=8), tmp_path / "rejected.jsonl"
    with pytest.raises(KeyboardInterrupt):
        ingest(encoder, photos, collection, RunContext(options=options, report=report, progress=interrupt))
    assert collection.count() == 16
    assert json.loads((tmp_path / "rejected.jsonl").read_text())["reason"] == "empty"
    assert ingest(encoder, photos, collection).rows_in_collection == N - 1


def test_an_error_leaves_no_worker(
    encoder: Encoder, photos: Dataset, collection: HashCollection, started: Processes
) -> None:
    def fail(_done: int, _total: int) -> None:
        raise StoreError("gone")

    with pytest.raises(StoreError):
        ingest(encoder, photos, collection, RunContext(options=IngestOptions(workers=2), progress=fail))
    assert len(started) == 2
    assert None not in [process.returncode for process in started]


def test_another_model_is_rejected_before_anything_is_written(
    photos: Dataset, collection: HashCollection, tmp_path: Path
) -> None:
    stranger = Encoder.open(write_small_bundle(tmp_path / "bundle", seed=1))
    with pytest.raises(StoreError, match="fingerprint"):
        ingest(stranger, photos, collection)
    with pytest.raises(StoreError, match="fingerprint"):
        search_file(collection, stranger, photos.file(0))
    assert collection.count() == 0


def test_a_namespace_with_nul_is_rejected(encoder: Encoder, photos: Dataset, collection: HashCollection) -> None:
    with pytest.raises(ConfigError, match="NUL"):
        ingest(encoder, photos, collection, RunContext(namespace="a\0b"))


def test_embeddings_stand_beside_the_codes(photos: Dataset, lite: MilvusClient, new_name: str, tmp_path: Path) -> None:
    encoder = Encoder.open(write_small_bundle(tmp_path / "bundle", outputs=("logits", "codes", "embedding")))
    collection = HashCollection.create(lite, new_name, encoder.bundle.manifest, embedding_dim=encoder.embedding_dim)
    ingest(encoder, photos, collection)
    with Image.open(photos.file(6)) as image:
        colour = np.asarray(image)[0, 0]
    (got,) = lite.get(new_name, [photo_id("", photos.paths[6])], output_fields=["embedding"])
    assert got["embedding"] == pytest.approx(colour - 127.5)


def test_a_photo_finds_itself(encoder: Encoder, photos: Dataset, collection: HashCollection) -> None:
    ingest(encoder, photos, collection)
    found = search_file(collection, encoder, photos.file(9), SearchParams(k=1, complete_ties=True))
    assert photos.paths[9] in {hit.path for hit in found.hits if hit.distance == 0}
    assert found.complete
