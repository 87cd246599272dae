"""Rows and files: what Milvus reads is what went in."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milvus_fghash.bulk_import.shards.parquet import arrow_schema, read_ids, read_rows, to_table, write_table
from milvus_fghash.core.codes import to_hex
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.errors import DataError, StoreError
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.milvus.schema import CollectionMetadata

pytestmark = pytest.mark.full

pq: Any = import_module("pyarrow.parquet")

NOTE = CollectionMetadata(method="lsh", lineage="ab12", fingerprint="0" * 64, bits=20)
CENTRE_CROP = arrow_schema(NOTE, code_hex=False, embedding_dim=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=16)
VALUES = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
METAS = st.dictionaries(TEXT, VALUES | st.lists(VALUES, max_size=2), max_size=3)


@st.composite
def some_rows(draw: st.DrawFn) -> Rows:
    count = draw(st.integers(1, 12))
    codes = np.frombuffer(draw(st.binary(min_size=3 * count, max_size=3 * count)), np.uint8).reshape(count, 3)

    def column(values: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(st.lists(values, min_size=count, max_size=count)))

    phashes = column(st.integers(-(2**63), 2**63 - 1))
    return Rows(column(IDS), codes, column(TEXT), column(TEXT), column(TEXT), column(METAS), phashes=phashes)


def types_of(value: Any) -> Any:
    """1, 1.0 and True are equal in Python, and not in JSON."""
    if isinstance(value, dict):
        return {name: types_of(inner) for name, inner in value.items()}
    return [types_of(inner) for inner in value] if isinstance(value, list) else (type(value), value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=some_rows())
def test_rows_come_back_as_they_went_in(rows: Rows, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_table(to_table(rows, None, CENTRE_CROP), path)
    places = list(range(len(rows)))[::-1]
    found = read_rows(path, places, 20, phash=True)
    assert np.array_equal(found.codes, rows.codes[::-1])
    for name in ("ids", "paths", "labels", "content_shas", "phashes"):
        assert getattr(found, name) == getattr(rows, name)[::-1]
    assert [types_of(meta) for meta in found.metas] == [types_of(dict(meta)) for meta in rows.metas[::-1]]
    assert [key for ids in read_ids(path, 5) for key in ids] == list(rows.ids)
    first = path.read_bytes()
    write_table(to_table(rows, None, CENTRE_CROP), path)
    assert path.read_bytes() == first


def one_row(**changes: Any) -> Rows:
    facts = {"ids": ("a",), "codes": np.array([[1, 2, 240]], np.uint8), "paths": ("p",), "labels": ("l",)}
    return Rows(**{**facts, "content_shas": ("s",), "metas": ({"split": "train"},), "phashes": (-5,), **changes})


def test_the_file_is_as_milvus_wants_it(tmp_path: Path) -> None:
    """A list of one number a byte, JSON as text, and nothing that could be null."""
    schema = arrow_schema(NOTE, code_hex=True, embedding_dim=2)
    rows = one_row()
    write_table(to_table(rows, np.array([[0.5, -1]], np.float32), schema), tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.to_pylist() == [
        {"id": "a", "code": [1, 2, 240], "path": "p", "label": "l", "content_sha": "s", "meta": '{"split": "train"}',
         "code_hex": to_hex(rows.codes)[0], "embedding": [0.5, -1.0], "phash": -5}
    ]  # fmt: skip
    assert str(table.schema.field("code").type) == "list<element: uint8 not null>"
    assert str(table.schema.field("embedding").type) == "list<element: float not null>"
    assert not any(field.nullable for field in table.schema)


TYPED = (Column("brand", "text"), Column("price", "double"), Column("sold", "bool"), Column("stock", "int64"))
VALUES_OF = {
    "brand": TEXT,
    "price": st.floats(allow_nan=False, allow_infinity=False),
    "sold": st.booleans(),
    "stock": st.integers(-(2**63), 2**63 - 1),
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=some_rows(), data=st.data())
def test_typed_columns_come_back_with_their_types(rows: Rows, data: st.DataObject, tmp_path: Path) -> None:
    count, path, schema = len(rows), tmp_path / "rows.parquet", arrow_schema(NOTE, False, None, TYPED)
    values = {
        name: tuple(data.draw(st.lists(drawn, min_size=count, max_size=count))) for name, drawn in VALUES_OF.items()
    }
    write_table(to_table(replace(rows, columns=values), None, schema), path)
    found = read_rows(path, range(count), 20, list(VALUES_OF)).columns
    assert [types_of(list(found[name])) for name in VALUES_OF] == [types_of(list(values[name])) for name in VALUES_OF]
    assert read_rows(path, range(count), 20).columns == {}


def test_typed_columns_are_as_milvus_wants_them() -> None:
    schema = arrow_schema(NOTE, False, None, TYPED)
    types = {"brand": "string", "price": "double", "sold": "bool", "stock": "int64"}
    assert {field.name: str(field.type) for field in schema if field.name in types} == types
    assert not any(field.nullable for field in schema)


def test_values_that_python_takes_for_equal_stay_apart(tmp_path: Path) -> None:
    metas: tuple[dict[str, Any], ...]
    metas = ({"a": 1}, {"a": True}, {"a": 1.0}, {"a": "1"}, {"a": "1"}, {"a": 0}, {"a": False}, {}, {"a": None})
    count = len(metas)
    same = ("x",) * count
    rows = Rows(same, np.zeros((count, 3), np.uint8), same, same, same, metas)
    write_table(to_table(rows, None, CENTRE_CROP), tmp_path / "x.parquet")
    found = read_rows(tmp_path / "x.parquet", range(count), 20).metas
    assert [types_of(meta) for meta in found] == [types_of(meta) for meta in metas]


def test_no_rows_are_a_file_too(tmp_path: Path) -> None:
    empty = Rows((), np.zeros((0, 3), np.uint8), (), (), (), ())
    write_table(to_table(empty, None, CENTRE_CROP), tmp_path / "x.parquet")
    assert list(read_ids(tmp_path / "x.parquet", 10)) == []


@pytest.mark.parametrize(("column", "most"), [("id", 64), ("path", 4096), ("label", 1024), ("meta", 65_536)])
def test_what_fits_is_counted_in_bytes(column: str, most: int) -> None:
    def value(size: int) -> Any:
        return {"a": "x" * (size - 9)} if column == "meta" else "ü" * (size // 2) + "x" * (size % 2)

    fits, over = (value(most),), (value(most + 1),)
    to_table(one_row(**{f"{column}s": fits}), None, CENTRE_CROP)
    with pytest.raises(StoreError, match=rf"{column} .*has {most + 1:,} bytes; the maximum is {most:,}"):
        to_table(one_row(**{f"{column}s": over}), None, CENTRE_CROP)


def test_an_id_that_would_not_be_found_is_rejected() -> None:
    with pytest.raises(StoreError, match="control character"):
        to_table(one_row(ids=("a\nb",)), None, CENTRE_CROP)


def test_what_is_no_parquet_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="cannot read the shard"):
        next(read_ids(tmp_path / "x.parquet", 10))
