"""Typed columns of a collection on Milvus Lite: made, filled, read, rejected."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymilvus import DataType, MilvusClient

from milvus_fghash.bundle.bundle import BundleManifest, read_bundle
from milvus_fghash.datasets.tables.columns import TYPES, Column, ExtraColumns
from milvus_fghash.errors import ConfigError, StoreError
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.milvus.scalar_fields import check_column_name, read_columns, requested_columns
from milvus_fghash.search.search import SearchParams, search_codes

pytestmark = pytest.mark.full

COLUMNS = (Column("price", "double"), Column("stock", "int64"), Column("sold", "bool"), Column("brand", "text"))


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> BundleManifest:
    return read_bundle(bundle).manifest


@pytest.fixture(scope="module")
def shop(lite: MilvusClient, manifest: BundleManifest) -> HashCollection:
    """An empty collection with a column of each type."""
    return HashCollection.create(lite, "shop", manifest, columns=COLUMNS)


def rows_of(**columns: Any) -> Rows:
    n = len(next(iter(columns.values())))
    ids, blank = tuple(map(str, range(n))), ("",) * n
    return Rows(ids, np.zeros((n, 2), np.uint8), ids, blank, blank, ({},) * n, columns)


ROWS = rows_of(
    price=(1.5, -0.0, 1e308), stock=(2**63 - 1, 0, -(2**63)), sold=(True, False, True), brand=("é", "", "\"'")
)


def test_the_schema_is_the_truth_about_columns(lite: MilvusClient, shop: HashCollection) -> None:
    opened = HashCollection.open(lite, "shop")
    assert opened.columns == shop.columns == COLUMNS
    assert {column.type for column in opened.columns} == set(TYPES)
    assert (opened.partition_key, opened.upserts) == (None, True)


def test_values_come_back_on_every_road(shop: HashCollection) -> None:
    shop.upsert(ROWS)
    assert shop.get(["2", "0", "1"]).columns["stock"] == (-(2**63), 2**63 - 1, 0)
    got = shop.get(ROWS.ids)
    assert got.columns == ROWS.columns
    scanned = Rows.concatenate(list(shop.scan(2)), 2)
    assert dict(zip(scanned.ids, scanned.columns["brand"], strict=True)) == {"0": "é", "1": "", "2": "\"'"}
    (found,) = search_codes(shop, ROWS.codes[:1], SearchParams(filter="price > 1 and sold == true and stock < 0"))
    (hit,) = found.hits
    assert (hit.id, hit.columns) == ("2", {"price": 1e308, "stock": -(2**63), "sold": True, "brand": "\"'"})
    changed = replace(rows_of(price=(7.0,), stock=(7,), sold=(False,), brand=("new",)), ids=("2",), paths=("2",))
    shop.upsert(changed)
    assert shop.get(["2"]).columns == changed.columns
    shop.delete(ROWS.ids)


VALUES = st.fixed_dictionaries(
    {
        "price": st.floats(allow_nan=False, allow_infinity=False),
        "stock": st.integers(-(2**63), 2**63 - 1),
        "sold": st.booleans(),
        "brand": st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    }
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=30))
def test_any_value_comes_back_as_it_was(shop: HashCollection, values: list[dict[str, Any]]) -> None:
    rows = rows_of(**{name: tuple(one[name] for one in values) for name in ("price", "stock", "sold", "brand")})
    shop.upsert(rows)
    assert shop.get(rows.ids).columns == rows.columns


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "have the columns price:double, stock:int64, sold:bool, brand:text; got none"),
        ({**ROWS.columns, "size": (1, 2, 3)}, "got price, stock, sold, brand, size"),
        ({**ROWS.columns, "stock": (1, None, 3)}, "the value is missing"),  # Milvus Lite would die of it
        ({**ROWS.columns, "stock": (1, 2**63, 3)}, "9223372036854775808 is not of type int64"),
        ({**ROWS.columns, "price": (1.0, float("nan"), 3.0)}, "the value is missing, and a column of type double"),
        ({**ROWS.columns, "brand": ("a", "b", "x" * 65_536)}, "is not of type text"),
    ],
)
def test_rows_that_do_not_fit_are_rejected_and_nothing_is_written(
    shop: HashCollection, columns: dict[str, tuple[Any, ...]], message: str
) -> None:
    before = shop.count()
    with pytest.raises(StoreError, match=message):
        shop.upsert(replace(ROWS, ids=("x", "y", "z"), columns=columns))
    assert shop.count() == before


def test_rows_with_columns_do_not_go_where_there_are_none(
    lite: MilvusClient, manifest: BundleManifest, new_name: str
) -> None:
    plain = HashCollection.create(lite, new_name, manifest)
    with pytest.raises(StoreError, match="have the columns none; got price, stock, sold, brand"):
        plain.upsert(ROWS)
    assert (plain.count(), plain.columns) == (0, ())


RESERVED_NAMES = (
    "id",
    "code",
    "path",
    "label",
    "content_sha",
    "meta",
    "code_hex",
    "embedding",
    "split",
    "namespace",
    "distance",
)
WORDS = ("in", "AND", "like", "Json_Contains_Any", "match_most", "st_within", "RowID", "Timestamp", "TRUE", "interval")
ODD = ("", "1a", "a b", "a-b", "ä", "$meta", "x" * 256)


@pytest.mark.parametrize("name", [*RESERVED_NAMES, *WORDS, *ODD])
def test_names_that_cannot_be(lite: MilvusClient, manifest: BundleManifest, new_name: str, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HashCollection.create(lite, new_name, manifest, columns=[Column(name, "text")])
    assert "invalid column name" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not lite.has_collection(new_name)


def test_names_that_can_be(lite: MilvusClient, manifest: BundleManifest, new_name: str) -> None:
    names = ("price", "_x", "In_stock", "x" * 255, "data", "score", "count", "match", "stock", "inn")
    collection = HashCollection.create(lite, new_name, manifest, columns=[Column(name, "int64") for name in names])
    collection.upsert(rows_of(**{name: (number,) for number, name in enumerate(names)}))
    for number, name in enumerate(names):
        (found,) = search_codes(collection, np.zeros((1, 2), np.uint8), SearchParams(filter=f"{name} == {number}"))
        assert len(found.hits) == 1


def test_64_fields_and_no_more(lite: MilvusClient, manifest: BundleManifest, new_name: str) -> None:
    columns = [Column(f"c{number}", "bool") for number in range(57)]
    with pytest.raises(ConfigError, match="Milvus allows 64 fields, of which 8 are taken; got 57 columns"):
        HashCollection.create(lite, new_name, manifest, columns=columns, code_hex=True)
    assert len(HashCollection.create(lite, new_name, manifest, columns=columns).columns) == 57


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ("brand", StoreError, "Milvus Lite does not support partition keys"),
        ("brant", ConfigError, "must be one of the typed columns. Did you mean brand"),
        ("price", ConfigError, "must be a column of type text or int64, not double"),
        ("label", ConfigError, "must be one of the typed columns"),
    ],
)
def test_partition_keys_that_cannot_be(
    lite: MilvusClient, manifest: BundleManifest, new_name: str, key: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        HashCollection.create(lite, new_name, manifest, columns=COLUMNS, partition_key=key)
    assert not lite.has_collection(new_name)


def test_a_column_stands_once(lite: MilvusClient, manifest: BundleManifest, new_name: str) -> None:
    with pytest.raises(ConfigError, match="a column is given twice: a:text, a:bool"):
        HashCollection.create(lite, new_name, manifest, columns=[Column("a", "text"), Column("a", "bool")])


def test_what_is_asked_for_on_the_command_line() -> None:
    cells = ExtraColumns({"price": ("1",), "stock": (1,)}, {"price": "text", "stock": "int64"})
    asked = requested_columns(["price:double", "stock"], cells)
    assert asked == (Column("price", "double"), Column("stock", "int64"))
    for word, message in {
        "price:": "ends with a colon",
        "label": "the name is reserved",
        "in:text": "a keyword of filters",
        "cost": "no column 'cost'",
        "price:money": "cannot have the type 'money'",
    }.items():
        with pytest.raises(ConfigError, match=message):
            requested_columns([word], cells)


@given(st.text(string.ascii_letters + "_", min_size=1, max_size=3))
def test_short_names_are_rejected_only_for_a_reason(name: str) -> None:
    rejected = name == "id" or name.lower() in {"and", "or", "not", "in", "is", "iso"}
    try:
        check_column_name(name)
    except ConfigError:
        assert rejected
    else:
        assert not rejected


def test_fields_that_others_added_need_no_values() -> None:
    fields = [
        {"name": "id", "type": DataType.VARCHAR},
        {"name": "code", "type": DataType.BINARY_VECTOR},
        {"name": "price", "type": DataType.DOUBLE},
        {"name": "later", "type": DataType.INT64, "nullable": True},
        {"name": "vague", "type": DataType.FLOAT},
        {"name": "brand", "type": DataType.VARCHAR, "is_partition_key": True},
    ]
    assert read_columns(fields) == ((Column("price", "double"), Column("brand", "text")), "brand")
