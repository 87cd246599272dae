"""Rows that are sent column by column arrive as if pymilvus had been given them row by row."""

from __future__ import annotations

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

from milvus_fghash.bundle import read_bundle
from milvus_fghash.data.columns import Column
from milvus_fghash.serving.collection import HashCollection
from milvus_fghash.serving.driver import lower_calls
from milvus_fghash.serving.replacing import replace_rows
from tests.serving.small_rows import rows_of

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
        shop.client.upsert(shop.name, shop.records(rows))
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
    replace_rows(client, "shop", fields, records, upserts=True, timeout=1)
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
    replace_rows(client, "shop", fields, [{"id": "a", "added": 7}], upserts=True, timeout=1)
    assert sent == [[{"id": "a", "added": 7}]]


def test_no_rows_are_no_call() -> None:
    client: Any = None
    replace_rows(client, "shop", [], [], upserts=True, timeout=1)
