"""A list with further columns into Milvus Lite: to `meta` or to typed columns, changed, rejected, repaired."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.read import read
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import DataError
from milvus_fghash.ingest.api import IngestResult, RunContext, ingest
from milvus_fghash.ingest.changes import Changes
from milvus_fghash.ingest.verify import repair, verify
from milvus_fghash.milvus.collection import HashCollection
from tests.helpers.small_catalog import EIGHT, Catalog, N, paint

pytestmark = pytest.mark.full


@dataclass
class Shop:
    """A list of the catalog's photos, and a collection for it."""

    catalog: Catalog
    lines: list[dict[str, str]]

    @property
    def file(self) -> Path:
        return self.catalog.photos.parent / "shop.csv"

    def dataset(self) -> Dataset:
        with open(self.file, "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(self.lines[0]))
            writer.writeheader()
            writer.writerows(self.lines)
        return read("table", self.file)

    def ingest(self, **more: Any) -> IngestResult:
        with self.catalog.open_journal() as journal:
            catalog = self.catalog
            return ingest(
                catalog.encoder, self.dataset(), catalog.collection, RunContext(options=EIGHT, **more), journal=journal
            )

    def stored(self) -> dict[str, dict[str, Any]]:
        """Path -> `meta` and columns of its row."""
        return {
            path: {**meta, **{name: values[row] for name, values in rows.columns.items()}}
            for rows in self.catalog.collection.scan()
            for row, (path, meta) in enumerate(zip(rows.paths, rows.metas, strict=True))
        }


@pytest.fixture
def shop(catalog: Catalog) -> Shop:
    lines = [
        {
            "path": f"photos/{number:02}.png",
            "price": f"{number}.5",
            "brand": "acme" if number % 2 else "",
            "split": "train",
        }
        for number in range(N)
    ]
    return Shop(catalog, lines)


@pytest.fixture
def priced(shop: Shop, lite: MilvusClient, new_name: str, encoder: Encoder) -> Shop:
    """The same, where `price` is a column of the collection."""
    name = f"{new_name}_priced"
    columns = [Column("price", "double")]
    shop.catalog.collection = HashCollection.create(lite, name, encoder.bundle.manifest, columns=columns)
    return shop


@pytest.fixture
def encoder(catalog: Catalog) -> Encoder:
    return catalog.encoder


def test_further_columns_go_into_meta_and_missing_ones_are_left_out(shop: Shop) -> None:
    assert shop.ingest(namespace="shop").stored == N
    stored = shop.stored()
    assert stored["photos/01.png"] == {"price": "1.5", "brand": "acme", "split": "train", "namespace": "shop"}
    assert stored["photos/02.png"] == {"price": "2.5", "split": "train", "namespace": "shop"}


def test_a_column_of_the_collection_is_typed_and_the_others_stay_in_meta(priced: Shop) -> None:
    assert priced.ingest().stored == N
    assert priced.stored()["photos/03.png"] == {"price": 3.5, "brand": "acme", "split": "train"}
    rows = list(priced.catalog.collection.scan(filter="price < 3"))
    assert sorted(path for part in rows for path in part.paths) == ["photos/00.png", "photos/01.png", "photos/02.png"]


@pytest.mark.parametrize("fixture", ["shop", "priced"])
def test_a_changed_value_is_written_again_and_only_that(fixture: str, request: pytest.FixtureRequest) -> None:
    shop: Shop = request.getfixturevalue(fixture)
    shop.ingest()
    assert (again := shop.ingest()).stored == 0
    assert again.unchanged == N
    shop.lines[4]["price"] = "99"
    shop.lines[5]["brand"] = "bolt"
    shop.lines[7]["brand"] = ""
    changed = shop.ingest()
    assert (changed.stored, changed.unchanged, changed.rows_in_collection) == (3, N - 3, N)
    stored = shop.stored()
    assert float(stored["photos/04.png"]["price"]) == 99
    assert stored["photos/05.png"]["brand"] == "bolt"
    assert "brand" not in stored["photos/07.png"]


@pytest.mark.parametrize(
    ("price", "message"),
    [
        ("", "line 22, column 'price': the value is missing"),
        ("cheap", "line 22, column 'price': 'cheap' is not of type double"),
    ],
)
def test_a_value_that_does_not_fit_stops_all_before_anything_is_written(priced: Shop, price: str, message: str) -> None:
    priced.lines[20]["price"] = price
    with pytest.raises(DataError, match=message):
        priced.ingest()
    assert priced.catalog.collection.count() == 0
    assert not list(priced.catalog.folder.glob("runs/*"))


def test_a_listing_without_the_column_is_rejected(priced: Shop) -> None:
    with pytest.raises(DataError, match="no column 'price', which the collection requires"):
        priced.catalog.ingest()  # a folder
    for line in priced.lines:
        line["cost"] = line.pop("price")
    with pytest.raises(DataError, match="no column 'price'"):
        priced.ingest()
    assert priced.catalog.collection.count() == 0


def test_a_list_cannot_have_a_column_that_meta_keeps(shop: Shop) -> None:
    for line in shop.lines:
        line["namespace"] = "mine"
    with pytest.raises(DataError, match="a column 'namespace'"):
        shop.ingest()


def test_a_meta_that_is_too_long_stops_only_its_photo(shop: Shop, tmp_path: Path) -> None:
    shop.lines[3]["brand"] = "x" * 70_000
    report = tmp_path / "rejected.jsonl"
    result = shop.ingest(report=report)
    assert (result.stored, result.reasons) == (N - 1, {"meta": 1})
    outcome = json.loads(report.read_text())
    assert (outcome["path"], outcome["reason"]) == ("photos/03.png", "meta")
    assert "the maximum is 65,536" in outcome["message"]


def test_verify_finds_nothing_new_and_mending_writes_the_columns(priced: Shop) -> None:
    priced.ingest()
    before = priced.stored()
    collection, encoder = priced.catalog.collection, priced.catalog.encoder
    with priced.catalog.open_journal() as journal:
        dataset = priced.dataset()
        found = verify(encoder, collection, Changes(dataset, "", journal), 20)
        assert (found.is_consistent, found.new_or_changed) == (True, 0)
    missing = collection.client.query(collection.name, "price < 4", output_fields=["id"])
    collection.client.delete(collection.name, filter="price < 4")
    twice = collection.client.query(collection.name, "price == 9.5", output_fields=["*"])
    collection.client.insert(collection.name, [{**row, "code": row["code"][0]} for row in twice])
    with priced.catalog.open_journal() as journal:
        found = verify(encoder, collection, Changes(dataset, "", journal), 20)
        assert (found.missing.count, found.duplicates.count) == (len(missing), 1)
        repair(collection, journal, found)
    assert priced.ingest().stored == len(missing) == 4
    assert priced.stored() == before
    assert collection.count() == N


def test_another_picture_keeps_its_columns(priced: Shop) -> None:
    priced.ingest()
    paint(priced.catalog.photos / "05.png", "red")
    assert priced.ingest().stored == 1
    assert priced.stored()["photos/05.png"]["price"] == 5.5


def test_a_photo_with_more_text_than_milvus_takes_is_rejected_and_all_others_get_in(
    shop: Shop, small_messages: MilvusClient, new_name: str, encoder: Encoder
) -> None:
    columns = [Column("brand", "text")]
    collection = HashCollection.create(small_messages, new_name, encoder.bundle.manifest, columns=columns)
    shop.catalog.collection = collection
    for number, line in enumerate(shop.lines):
        line["brand"] = "x" * (60_000 if number in (3, 20) else 9_000)  # eight together are too much, too
    result = shop.ingest()
    assert (result.stored, result.rejected, result.reasons) == (N - 2, 2, {"row-too-large": 2})
    with shop.catalog.open_journal() as journal:
        rejected = {one.path: one for one in journal.entries("row-too-large")}
    assert set(rejected) == {"photos/03.png", "photos/20.png"}
    assert "larger than a message to this Milvus may be" in rejected["photos/03.png"].message
    assert rejected["photos/03.png"].content_sha == ""
    assert collection.count() == N - 2

    again = shop.ingest()
    assert (again.stored, again.unchanged, again.rejected) == (0, N - 2, 2)
    shop.lines[3]["brand"] = "short"
    assert shop.ingest().stored == 1
    shop.lines[3]["brand"] = "y" * 60_000  # its row of before stays, and the journal knows of it
    result = shop.ingest()
    assert (result.stored, result.rejected, collection.count()) == (0, 2, N - 1)
    with shop.catalog.open_journal() as journal:
        changes = Changes(shop.dataset(), "", journal)
        assert verify(encoder, collection, changes, 0).is_consistent
