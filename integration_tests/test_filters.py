"""Filters on Milvus Lite and on a real server: what is taken means the same on both, the rest is rejected on both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymilvus import MilvusClient

from integration_tests.random_rows import manifest_of
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.errors import ConfigError
from milvus_fghash.ingest.delete import delete_where
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.filters import all_of
from milvus_fghash.search.search import SearchParams, search_codes
from tests.helpers.filter_strategies import (
    Drawn,
    arrays,
    as_rows,
    comparisons,
    computed,
    filters,
    json_comparisons,
    json_lists,
    lengths,
    lists,
    ranges,
    rows,
)

COLUMNS = (Column("price", "double"), Column("stock", "int64"), Column("sold", "bool"), Column("brand", "text"))
NAMES = "The columns are id, path, label, content_sha, meta, phash, price, stock, sold, brand"
ROWS = rows(91)
NAME = "test_filters_on_both"
SLOW = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
STRAY = (
    "and", "AND", "or", "not", "in", "like", "is null", "==", "=", "(", ")", "[", "]", ",", "'", '"', "\\", "%", "!",
    "-", "0", "1.5", "true", "x", "label", 'meta["size"]', '"robin"', "#", ";", "&&", "&", "*", " ",
)  # fmt: skip
"""What is put into filters, or in place of a part of them."""


@dataclass
class Both:
    """The same rows in Milvus Lite and on a server."""

    lite: HashCollection
    server: HashCollection


@pytest.fixture(scope="module")
def both(lite: MilvusClient, server: MilvusClient) -> Iterator[Both]:
    made = [HashCollection.create(client, NAME, manifest_of(12), columns=COLUMNS) for client in (lite, server)]
    for one in made:
        one.upsert(as_rows(ROWS))
        assert one.count() == len(ROWS)  # waits for them, so that searches need not
    yield Both(*made)
    for client in (lite, server):
        client.drop_collection(NAME)


def found(collection: HashCollection, filter: str) -> set[str]:
    wanted = SearchParams(k=200, filter=filter, consistency="Eventually")
    (answer,) = search_codes(collection, np.zeros((1, 2), np.uint8), wanted)
    return {hit.id for hit in answer.hits}


@SLOW
@given(comparisons() | json_comparisons() | lists() | json_lists() | ranges() | arrays() | lengths())
def test_python_the_server_and_lite_agree(both: Both, drawn: Drawn) -> None:
    filter, holds = drawn
    wanted = {row["id"] for row in ROWS if holds(row)}
    assert found(both.server, filter) == wanted
    assert found(both.lite, filter) == wanted


@SLOW
@given(computed())
def test_they_agree_on_what_is_computed(both: Both, drawn: Drawn) -> None:
    filter, holds = drawn
    wanted = {row["id"] for row in ROWS if holds(row) and -100 < row["stock"] < 100}
    for one in (both.server, both.lite):  # the server of these tests computes in floating point
        assert found(one, all_of([filter, "stock > -100 and stock < 100"])) == wanted


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A filter of which a piece is taken out, or something stands in the place of it."""
    filter, _ = draw(filters)
    for _ in range(draw(st.integers(1, 2))):
        start = draw(st.integers(0, len(filter)))
        end = draw(st.integers(start, min(len(filter), start + 6)))
        filter = filter[:start] + draw(st.sampled_from(("", *STRAY))) + filter[end:]
    return filter


@SLOW
@given(damaged())
def test_what_lite_takes_of_damaged_filters_means_the_same_on_the_server(both: Both, filter: str) -> None:
    try:
        on_lite = found(both.lite, filter)
    except ConfigError:
        return
    try:
        on_server = found(both.server, filter)
    except ConfigError as error:
        if "unsupported pattern" not in str(error):  # this server has prefixes only
            raise
    else:
        if " like " not in filter.lower():
            assert on_lite == on_server


@pytest.mark.parametrize(
    "filter",
    [
        'label == "robin" AND id == "0"', 'label == "robin" id == "0"', 'label == "robin", id == "0"', "label ==",
        'label == "robin" x', '(label == "robin" x)', "label == 'Brewer's blackbird'", "nosuch == 3", "label > 3",
        'label == "x") or (label == "y"', '(label == "x"', "label", "sold and true", "stock / 0 == 1", "1 == 1",
        "stock == 9223372036854775808", "label = 'x'", "\\", "meta == 1", "code == 1", "stock in [1.5]",
    ],
)  # fmt: skip
def test_wrong_filters_are_rejected_alike(both: Both, filter: str) -> None:
    for collection in (both.lite, both.server):
        for way in (
            lambda one: found(one, filter),
            lambda one: delete_where(one, filter, yes=True),
            lambda one: list(one.scan(filter=filter)),
        ):
            with pytest.raises(ConfigError) as caught:
                way(collection)
            message = str(caught.value)
            assert message.endswith(NAMES)
            assert message.count("The columns") == message.count(" filter ") == 1
            assert not [mark for mark in ("\n", ".cpp", ".go:") if mark in message]
        assert collection.count() == len(ROWS)
