"""Rows that are sent column by column arrive as if pymilvus had been given them row by row."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymilvus import DataType, MilvusClient
from pymilvus.client.prepare import Prepare

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.errors import RowsTooLarge
from milvus_fghash.milvus import upsert as replacing
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.pymilvus_compat import lower_calls
from milvus_fghash.milvus.rows import Rows, by_field
from milvus_fghash.milvus.upsert import replace_rows
from tests.helpers.small_rows import records_of, rows_of

pytestmark = pytest.mark.full

COLUMNS = (Column("price", "double"), Column("stock", "int64"), Column("sold", "bool"), Column("brand", "text"))
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@pytest.fixture(scope="module")
def shop(lite: MilvusClient, bundle: Path) -> Iterator[HashCollection]:
    """An empty collection with a column of each type."""
    yield HashCollection.create(lite, "replacing", read_bundle(bundle).manifest, columns=COLUMNS, code_hex=True)
    lite.drop_collection("replacing")


@dataclass
class Kept:
    """A call of gRPC that keeps what is sent."""

    call: Any
    sent: list[Any]

    def __call__(self, request: Any, **more: Any) -> Any:
        self.sent.append(request)
        return self.call(request, **more)

    def future(self, request: Any, **more: Any) -> Any:
        self.sent.append(request)
        return self.call.future(request, **more)


def contents(request: Any) -> dict[str, Any]:
    """Of a request, without what each is given anew; its fields by name, and JSON as it is read."""
    fields = {}
    for one in request.fields_data:
        plain = type(one)()
        plain.CopyFrom(one)
        read = [json.loads(text) for text in one.scalars.json_data.data]
        plain.scalars.json_data.ClearField("data")
        fields[one.field_name] = (plain.SerializeToString(deterministic=True), read)
    return {"fields": fields, "rows": request.num_rows, "name": request.collection_name, "kind": type(request).__name__}


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_is_sent_is_what_milvus_client_sends(
    shop: HashCollection, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, 5))
    drawn = {
        "price": st.floats(allow_nan=False, allow_infinity=False),
        "stock": st.integers(-(2**63), 2**63 - 1),
        "sold": st.booleans(),
        "brand": TEXTS,
    }
    columns = {name: tuple(data.draw(st.lists(values, min_size=n, max_size=n))) for name, values in drawn.items()}
    metas = tuple(
        data.draw(
            st.lists(
                st.dictionaries(TEXTS, TEXTS | st.integers(-(2**63), 2**63 - 1), max_size=3), min_size=n, max_size=n
            )
        )
    )
    rows = replace(rows_of(n, shop.bits), metas=metas)
    rows = replace(rows, columns=columns, labels=tuple(data.draw(st.lists(TEXTS, min_size=n, max_size=n))))
    handler, _ = lower_calls(shop.client)
    sent: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(handler._stub, "Upsert", Kept(handler._stub.Upsert, sent))
        shop.upsert(rows)
        shop.client.upsert(shop.name, records_of(shop, rows))
    ours, theirs = map(contents, sent)
    assert ours == theirs
    assert set(ours["fields"]) == {field["name"] for field in shop.fields}


def test_vectors_and_fields_that_may_be_null_are_sent_alike() -> None:
    """Of columns that someone else added, and that Milvus computes, which no Milvus here has."""
    fields: list[dict[str, Any]] = [
        {"name": "id", "type": DataType.VARCHAR, "params": {"max_length": 64}, "is_primary": True},
        {"name": "code", "type": DataType.BINARY_VECTOR, "params": {"dim": 16}},
        {"name": "embedding", "type": DataType.FLOAT_VECTOR, "params": {"dim": 3}},
        {"name": "added", "type": DataType.INT64, "params": {}, "nullable": True},
        {"name": "computed", "type": DataType.FLOAT_VECTOR, "params": {"dim": 8}, "is_function_output": True},
    ]
    embeddings = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    records = [
        {"id": str(number), "code": bytes([number, 255]), "embedding": row} for number, row in enumerate(embeddings)
    ]
    sent: list[Any] = []

    class Handler:
        def upsert(self, name: str, columns: list[dict[str, Any]], schema: dict[str, Any], **_: Any) -> None:
            sent.append(Prepare.batch_upsert_param(name, columns, "", schema["fields"]))

    class Client:
        def _get_connection(self) -> Handler:
            return Handler()

        def _generate_call_context(self) -> None:
            return None

    client: Any = Client()
    replace_rows(client, "shop", fields, by_field(records), upserts=True, timeout=1)
    sent.append(Prepare.row_upsert_param("shop", records, "", fields, [], enable_dynamic=False))
    ours, theirs = map(contents, sent)
    assert ours == theirs


def test_a_field_that_others_have_added_since_keeps_its_value() -> None:
    fields: list[dict[str, Any]] = [{"name": "id", "type": DataType.VARCHAR}]
    sent: list[Any] = []

    class Client:
        def upsert(self, name: str, data: list[dict[str, Any]], timeout: float) -> None:
            sent.append(data)

    client: Any = Client()
    replace_rows(client, "shop", fields, {"id": ["a"], "added": [7]}, upserts=True, timeout=1)
    assert sent == [[{"id": "a", "added": 7}]]


def shop_rows(bits: int, n: int, brand: str) -> Rows:
    values = {"price": (1.0,) * n, "stock": (1,) * n, "sold": (True,) * n, "brand": (brand,) * n}
    return replace(rows_of(n, bits), columns=values)


def test_many_bytes_are_sent_in_parts(shop: HashCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = shop_rows(shop.bits, 60, "é" * 300)
    handler, _ = lower_calls(shop.client)
    sent: list[Any] = []
    monkeypatch.setattr(handler._stub, "Upsert", Kept(handler._stub.Upsert, sent))
    monkeypatch.setattr(replacing, "MAX_MESSAGE_BYTES", 10_000)
    assert shop.upsert(rows) == 60
    assert {one.ByteSize() <= 10_000 for one in sent} == {True}
    assert 4 <= len(sent) <= 6  # 60 rows of 600 bytes and some
    assert shop.get(rows.ids).columns["brand"] == rows.columns["brand"]
    sent.clear()
    monkeypatch.setattr(replacing, "MAX_MESSAGE_BYTES", 100)
    shop.upsert(shop_rows(shop.bits, 3, "x"))
    assert [one.num_rows for one in sent] == [1, 1, 1]


@given(st.lists(st.integers(0, 2000), max_size=30), st.integers(1, 10))
def test_parts_hold_all_rows_in_order_and_no_more_than_they_may(sizes: list[int], most: int) -> None:
    values: dict[str, Any] = {
        "id": [str(number) for number in range(len(sizes))],
        "code": [bytes(size) for size in sizes],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replacing, "MAX_MESSAGE_BYTES", 3000)
        parts = list(replacing._parts(values, most))
    for name, column in values.items():
        assert [one for part in parts for one in part[name]] == column
    codes = [part["code"] for part in parts]
    for part in codes:
        assert 1 <= len(part) <= most
        assert len(part) == 1 or sum(map(len, part)) <= 3000
    for one, two in itertools.pairwise(codes):  # no part is smaller than it must be
        together = sum(len(code) + 40 for code in (*one, two[0]))
        assert len(one) == most or together > 3000


def test_what_is_too_large_for_this_milvus_is_halved_and_a_single_row_that_is_is_named(
    bundle: Path, small_messages: MilvusClient, new_name: str
) -> None:
    manifest = read_bundle(bundle).manifest
    shop = HashCollection.create(small_messages, new_name, manifest, columns=[Column("brand", "text")])
    brands = tuple("x" * (60_000 if number == 5 else 3_000) for number in range(40))
    rows = replace(rows_of(40, shop.bits), columns={"brand": brands})
    with pytest.raises(RowsTooLarge, match=f"1 rows, such as {rows.ids[5]}, are larger than a message") as caught:
        shop.upsert(rows)
    assert caught.value.ids == {rows.ids[5]}
    assert {key for part in shop.scan() for key in part.ids} == {*rows.ids} - {rows.ids[5]}


def test_no_rows_are_no_call() -> None:
    client: Any = None
    replace_rows(client, "shop", [], {}, upserts=True, timeout=1)
