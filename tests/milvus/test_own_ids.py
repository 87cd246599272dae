"""Own ids on Milvus Lite: kept, shown and found, and never taken for another row's."""

from __future__ import annotations

import csv
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.read import read
from milvus_fghash.dedupe.near_search import find_duplicates
from milvus_fghash.dedupe.page import write_duplicates_page
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import StoreError
from milvus_fghash.ingest.api import RunContext, ingest
from milvus_fghash.ingest.changes import Changes
from milvus_fghash.ingest.delete import Deletion, delete_named
from milvus_fghash.ingest.verify import verify
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.own_ids import row_ids
from milvus_fghash.milvus.rows import Rows, photo_id
from milvus_fghash.search.gallery import Query, write_gallery
from milvus_fghash.search.search import SearchParams, search_id
from milvus_fghash.state.journal import Journal
from tests.helpers.small_catalog import EIGHT, Catalog

FIRST, SECOND, THIRD = (f"{number:032x}" for number in range(3))
ODD = ['a"b', "it's", "back\\slash", "ü\u20ac", "\U0001f600", "%_", "x" * 300, "", "nan", "tab\t\x01"]


@pytest.fixture
def collection(lite: MilvusClient, bundle: Path, new_name: str) -> HashCollection:
    return HashCollection.create(lite, new_name, Encoder.open(bundle).bundle.manifest)


def put(collection: HashCollection, ids: list[str], own_ids: list[str | None], namespace: str = "") -> None:
    spaces = {"namespace": namespace} if namespace else {}
    metas = tuple({**spaces, **({} if own is None else {"id": own})} for own in own_ids)
    codes = np.array([[zlib.crc32(key.encode()) % 256, 0] for key in ids], np.uint8)
    collection.upsert(Rows(tuple(ids), codes, tuple(ids), ("",) * len(ids), ("",) * len(ids), metas))


def test_an_own_id_comes_before_a_row_of_that_id_unless_it_looks_like_one(collection: HashCollection) -> None:
    put(collection, [FIRST, SECOND, "7", "8", "9"], [SECOND, "7", None, "SKU-1001", "1001"])
    asked = [FIRST, SECOND, "7", "8", "SKU-1001", "1001", "sku-1001", "1001", "a\udcffb"]
    assert row_ids(collection, asked) == {
        FIRST: FIRST,
        SECOND: SECOND,
        "7": SECOND,
        "8": "8",
        "SKU-1001": "8",
        "1001": "9",
    }


def test_odd_own_ids_are_found(collection: HashCollection) -> None:
    ids = [f"{number:032x}" for number in range(len(ODD))]
    put(collection, ids, [*ODD])
    assert row_ids(collection, ODD) == dict(zip(ODD, ids, strict=True))


def test_more_own_ids_than_one_call_may_name(collection: HashCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.milvus.own_ids.MAX_IDS_PER_CALL", 2)
    put(collection, [FIRST, SECOND, THIRD], ["a", "b", "c"])
    assert row_ids(collection, ["c", "b", "none", "a"]) == {"c": THIRD, "b": SECOND, "a": FIRST}


def test_an_own_id_of_several_rows_is_rejected_and_nothing_is_deleted(collection: HashCollection) -> None:
    put(collection, [FIRST], ["SKU-1"])
    put(collection, [SECOND], ["SKU-1"], namespace="shop")
    with pytest.raises(StoreError, match=rf"2 rows .* have the own id 'SKU-1': {FIRST} \({FIRST}\), .*namespace shop"):
        search_id(collection, "SKU-1")
    with pytest.raises(StoreError, match="give the primary key of one, or its namespace"):
        delete_named(collection, [FIRST, "SKU-1"], yes=True)
    assert collection.count() == 2
    assert [search_id(collection, "SKU-1", SearchParams(1), namespace).hits[0].id for namespace in ("", "shop")] == [
        FIRST,
        SECOND,
    ]
    with pytest.raises(StoreError, match="no row with the id 'SKU-1' in the namespace 'other'"):
        search_id(collection, "SKU-1", namespace="other")
    assert delete_named(collection, ["SKU-1"], yes=True, namespace="shop") == Deletion(collection.name, 1, 0, 1, 1)


def test_deleting_counts_rows_and_what_names_none(collection: HashCollection, tmp_path: Path) -> None:
    put(collection, [FIRST, SECOND, THIRD], ["SKU-1", "SKU-2", None])
    asked = ["SKU-1", FIRST, "SKU-2", "nobody", "nobody", "x" * 300, "a\udcffb"]
    assert delete_named(collection, asked) == Deletion(collection.name, 2, 3, 0, 3)
    journal = Journal.open(tmp_path, collection.uid)
    assert delete_named(collection, asked, True, journal) == Deletion(collection.name, 2, 3, 2, 1)
    journal.close()
    assert [rows.ids for rows in collection.scan()] == [(THIRD,)]


def dataset_of(catalog: Catalog, **changed: str) -> Dataset:
    """Its photos, each with an article number."""
    paths = sorted(file.name for file in catalog.photos.iterdir())
    file = catalog.photos / "list.csv"
    with open(file, "w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["id", "path"])
        lines.writerows([changed.get(path[:2], f"SKU-{path[:2]}"), path] for path in paths if path.endswith(".png"))
    return read("table", file)


def test_the_ids_of_a_list_are_kept_shown_and_searched_by(catalog: Catalog, tmp_path: Path) -> None:
    collection, encoder = catalog.collection, catalog.encoder

    def take_in(dataset: Dataset, **more: str) -> int:
        with catalog.open_journal() as journal:
            return ingest(encoder, dataset, collection, RunContext(options=EIGHT, **more), journal=journal).stored  # type: ignore[arg-type]

    without = replace(dataset := dataset_of(catalog), extra_columns=replace(dataset.extra_columns, values={}))
    assert take_in(without) == 40  # as before own ids were kept
    assert take_in(dataset) == 40  # which the next ingest writes
    assert take_in(dataset) == 0
    assert take_in(dataset_of(catalog, **{"05": "NEW-05"})) == 1
    for text, path in (("SKU-07", "07.png"), ("NEW-05", "05.png"), (photo_id("", "09.png"), "09.png")):
        assert row_ids(collection, [text]) == {text: photo_id("", path)}
        assert path in {hit.path for hit in search_id(collection, text, SearchParams(40, max_distance=0)).hits}
    found = search_id(collection, "SKU-07", SearchParams(40))
    assert {hit.path: hit.own_id for hit in found.hits} == {
        f"{n:02}.png": "NEW-05" if n == 5 else f"SKU-{n:02}" for n in range(40)
    }
    query = Query("SKU-07", found)
    write_gallery(tmp_path / "hits.html", [query], catalog.photos, collection=collection)
    assert "SKU-<wbr>12" in (tmp_path / "hits.html").read_text()

    duplicates = find_duplicates(collection, max_distance=12)
    (group,) = duplicates.groups
    assert {(one.path, one.own_id) for one in group.members} >= {("07.png", "SKU-07"), ("05.png", "NEW-05")}
    write_duplicates_page(tmp_path / "groups.html", duplicates, catalog.photos)
    assert "SKU-<wbr>12" in (tmp_path / "groups.html").read_text()

    assert delete_named(collection, ["SKU-07"], yes=True).deleted == 1
    with catalog.open_journal() as journal:
        verified = verify(encoder, collection, Changes(dataset, "", journal), sample=0)
    assert (verified.missing.examples, verified.missing.own_ids) == (("07.png",), ("SKU-07",))
