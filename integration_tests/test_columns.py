"""Typed columns, filters over them and the partition key, on Milvus Lite and on a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from pymilvus import MilvusClient

from integration_tests.losing_proxy import losing_proxy
from integration_tests.random_rows import manifest_of, random_rows
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.ingest.delete import delete_where
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from milvus_fghash.milvus.pymilvus_compat import lower_calls
from milvus_fghash.milvus.retry import RetryPolicy
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.search.search import SearchParams, search_codes

N = 300
COLUMNS = (Column("price", "double"), Column("stock", "int64"), Column("sold", "bool"), Column("brand", "text"))
BRANDS = ("acme", 'bolt "n" nut', "Ärger", "")


def rows_with_columns(seed: int = 0) -> Rows:
    generator = np.random.default_rng(seed)
    stock = [int(value) for value in generator.integers(-5, 6, N)]
    stock[:2] = [2**63 - 1, -(2**63)]
    return replace(
        random_rows(N, 12),
        columns={
            "price": tuple(float(value) for value in generator.standard_normal(N)),
            "stock": tuple(stock),
            "sold": tuple(bool(value) for value in generator.integers(0, 2, N)),
            "brand": tuple(BRANDS[value] for value in generator.integers(0, len(BRANDS), N)),
        },
    )


Facts = dict[str, Any]
FILTERS: dict[str, Callable[[Facts], bool]] = {
    "price < 0.25": lambda row: row["price"] < 0.25,
    "stock >= 3 and stock < 5": lambda row: 3 <= row["stock"] < 5,
    "stock == 9223372036854775807": lambda row: row["stock"] == 2**63 - 1,
    "sold == true": lambda row: row["sold"],
    "sold == false": lambda row: not row["sold"],
    'brand == "acme" or brand == "Ärger"': lambda row: row["brand"] in ("acme", "Ärger"),
    'brand == "bolt \\"n\\" nut"': lambda row: row["brand"] == BRANDS[1],
    'brand == ""': lambda row: row["brand"] == "",
    'brand in ["acme"] and price > 0 and label != "class 1"': lambda row: (
        row["brand"] == "acme" and row["price"] > 0 and row["label"] != "class 1"
    ),
    'meta["number"] < 10 and stock < 0': lambda row: row["number"] < 10 and row["stock"] < 0,
}
SIMPLE: dict[str, Callable[[Facts], bool]] = {
    'brand == "acme"': lambda row: row["brand"] == "acme",
    "stock == 2": lambda row: row["stock"] == 2,
    "sold == true": lambda row: row["sold"],
}


def ids_that_fit(rows: Rows, fits: Callable[[Facts], bool]) -> set[str]:
    """By a plain loop."""
    return {
        key
        for row, key in enumerate(rows.ids)
        if fits(
            {
                "label": rows.labels[row],
                **rows.metas[row],
                **{name: values[row] for name, values in rows.columns.items()},
            }
        )
    }


def found_by(collection: HashCollection, rows: Rows, filter: str) -> set[str]:
    (found,) = search_codes(collection, rows.codes[:1], SearchParams(k=N + 1, filter=filter, consistency="Strong"))
    for hit in found.hits:
        row = rows.ids.index(hit.id)
        assert hit.columns == {name: values[row] for name, values in rows.columns.items()}
    return {hit.id for hit in found.hits}


@pytest.fixture(params=["lite", "server", "server by brand", "server by stock"])
def collection(request: pytest.FixtureRequest, new_name: str) -> Iterator[HashCollection]:
    """Empty, in one or the other Milvus, without and with a partition key."""
    kind, _, key = request.param.partition(" by ")
    client: MilvusClient = request.getfixturevalue(kind)
    made = HashCollection.create(
        client, new_name, manifest_of(12), columns=COLUMNS, partition_key=key or None, consistency="Strong"
    )
    assert (made.columns, made.partition_key) == (COLUMNS, key or None)
    yield made
    client.drop_collection(new_name)


def test_filters_find_and_delete_what_a_plain_loop_finds(collection: HashCollection) -> None:
    rows = rows_with_columns()
    collection.upsert(rows)
    for filter, fits in FILTERS.items():
        wanted = ids_that_fit(rows, fits)
        assert 0 < len(wanted) < N, filter
        assert found_by(collection, rows, filter) == wanted, filter
    assert collection.get(rows.ids).columns == rows.columns
    scanned = Rows.concatenate(list(collection.scan(70)), 2)
    assert sorted(zip(scanned.ids, scanned.columns["brand"], strict=True)) == sorted(
        zip(rows.ids, rows.columns["brand"], strict=True)
    )
    wanted = ids_that_fit(rows, lambda row: row["brand"] == "acme" and row["stock"] > 0)
    result = delete_where(collection, 'brand == "acme" and stock > 0', yes=True)
    assert (result.found, result.deleted, result.rows_in_collection) == (len(wanted), len(wanted), N - len(wanted))


def test_a_value_that_changes_moves_its_row_and_no_row_is_there_twice(collection: HashCollection) -> None:
    for seed in range(3):  # each time most rows get another brand and stock, and so another partition
        rows = rows_with_columns(seed)
        collection.upsert(rows)
        assert collection.count() == N
        for filter in SIMPLE:
            assert found_by(collection, rows, filter) == ids_that_fit(rows, SIMPLE[filter])


def test_more_rows_than_one_call_may_name(server: MilvusClient, new_name: str) -> None:
    made = HashCollection.create(server, new_name, manifest_of(12), columns=COLUMNS[3:], partition_key="brand")
    try:
        rows = replace(random_rows(2_500, 12), columns={"brand": tuple(f"b{n % 50}" for n in range(2_500))})
        for _ in range(2):
            assert made.upsert(rows) == 2_500
            assert made.count() == 2_500
        (found,) = search_codes(made, rows.codes[:1], SearchParams(k=100, filter='brand == "b7"', consistency="Strong"))
        assert len(found.hits) == 50
    finally:
        server.drop_collection(new_name)


@pytest.mark.parametrize("lost", ["delete", "batch_insert", "upsert"])
def test_a_lost_answer_leaves_each_row_once(
    server: MilvusClient, server_target: ConnectionConfig, new_name: str, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = urlsplit(server_target.uri)
    assert host.hostname
    assert host.port
    rows = rows_with_columns()
    with (
        losing_proxy(host.hostname, host.port) as (proxy, uri),
        closing(connect(ConnectionConfig(uri, server_target.token))) as one,
    ):
        made = HashCollection.create(one, new_name, manifest_of(12), columns=COLUMNS, partition_key="brand")
        try:
            made.upsert(rows)
            sender = one if lost == "delete" else lower_calls(one)[0]
            call, calls = getattr(sender, lost), [0]

            def losing(*words: Any, **more: Any) -> Any:
                calls[0] += 1
                if calls[0] == 1:
                    proxy.lose(0.5)
                return call(*words, **more)

            monkeypatch.setattr(sender, lost, losing)
            again = rows_with_columns(1)
            RetryPolicy(60).call(lambda: made.upsert(again), threading.Event(), lambda line: None)
            assert (calls[0] > 0) is ((lost == "upsert") is made.upserts)
            assert made.count() == N
            assert found_by(made, again, 'brand == "acme"') == ids_that_fit(again, SIMPLE['brand == "acme"'])
        finally:
            server.drop_collection(new_name)
