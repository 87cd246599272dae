"""The column of perceptual hashes: every new collection has it, and those made before work on without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.core.images import open_rgb
from milvus_fghash.core.perceptual_hash import NO_HASH, perceptual_hash
from milvus_fghash.datasets.read import read
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError
from milvus_fghash.ingest.api import IngestOptions, ingest
from milvus_fghash.migration.reindex import open_beside
from milvus_fghash.milvus import scalar_fields
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import photo_id
from tests.helpers.drawn_scenes import scene
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_catalog import Catalog
from tests.helpers.small_rows import rows_of

pytestmark = pytest.mark.full


@pytest.mark.parametrize("workers", [0, 1])
def test_ingest_keeps_the_hash_of_each_photo(catalog: Catalog, workers: int) -> None:
    for number in range(5):
        scene(number, (50, 40)).save(catalog.photos / f"0{number}.png")
    catalog.ingest(IngestOptions(rows_per_write=8, workers=workers))
    rows = catalog.collection.get([photo_id("", f"{number:02}.png") for number in range(8)])
    assert list(rows.phashes) == [perceptual_hash(open_rgb(catalog.photos / path)) for path in rows.paths]
    assert NO_HASH not in rows.phashes[:5]
    assert rows.phashes[5:] == (NO_HASH,) * 3  # of one colour
    scanned = {
        key: phash for page in catalog.collection.scan(7) for key, phash in zip(page.ids, page.phashes, strict=True)
    }
    assert scanned[rows.ids[0]] == rows.phashes[0]
    assert catalog.verify().is_consistent


def test_a_collection_made_before_works_on(catalog: Catalog, new_name: str, tmp_path: Path) -> None:
    client, manifest = catalog.collection.client, catalog.encoder.bundle.manifest
    catalog.collection = HashCollection.create(client, f"{new_name}_old", manifest, phash=False)
    assert not HashCollection.open(client, f"{new_name}_old").has_phash
    catalog.ingest()
    assert catalog.verify().is_consistent
    rows = next(catalog.collection.scan())
    assert rows.phashes == ()
    another = Encoder.open(write_small_bundle(tmp_path / "another", seed=5))
    assert open_beside(client, catalog.collection, f"{new_name}_new", another).has_phash  # its successor has them


def test_rows_that_come_without_hashes_have_none(lite: MilvusClient, new_name: str, bundle: Path) -> None:
    collection = HashCollection.create(lite, new_name, read_bundle(bundle).manifest)
    rows = rows_of(4, 12, phashes=(1, -1, 2**63 - 1, -(2**63)))
    collection.upsert(rows)
    assert collection.get(rows.ids).phashes == rows.phashes
    collection.upsert(rows_of(4, 12, phashes=()))
    assert collection.get(rows.ids).phashes == (NO_HASH,) * 4


def test_a_column_of_that_name_which_the_user_gave_before_stays_theirs(
    lite: MilvusClient, new_name: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_bundle(bundle).manifest
    with pytest.raises(ConfigError, match="'phash': the name is reserved"):
        HashCollection.create(lite, new_name, manifest, columns=[Column("phash", "int64")])
    with monkeypatch.context() as before:
        before.setattr(scalar_fields, "RESERVED_NAMES", ())
        HashCollection.create(lite, new_name, manifest, columns=[Column("phash", "int64")], phash=False)
    opened = HashCollection.open(lite, new_name)
    assert (opened.has_phash, opened.columns) == (False, (Column("phash", "int64"),))
    scene(0, (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("path,phash\na.png,7\n")
    ingest(Encoder.open(bundle), read("table", tmp_path / "list.csv"), opened)
    rows: Any = next(opened.scan())
    assert (rows.columns, rows.phashes) == ({"phash": (7,)}, ())


def test_all_kinds_of_columns_go_together(lite: MilvusClient, new_name: str, tmp_path: Path) -> None:
    wide = Encoder.open(write_small_bundle(tmp_path / "wide", outputs=("logits", "codes", "embedding")))
    columns = [Column("sold", "bool")]
    collection = HashCollection.create(
        lite, new_name, wide.bundle.manifest, code_hex=True, embedding_dim=3, columns=columns
    )
    assert (collection.has_phash, collection.columns) == (True, tuple(columns))
    assert not HashCollection.create(lite, f"{new_name}_b", wide.bundle.manifest, phash=False).has_phash
