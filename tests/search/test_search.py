"""What may be asked for, and how an answer is cut, on Milvus Lite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from milvus_fghash.bundle.bundle import Bundle, read_bundle
from milvus_fghash.errors import CodeError, ConfigError, StoreError
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.milvus.schema import check_name
from milvus_fghash.search.search import SearchParams, search_codes, search_hex, search_id


@pytest.fixture(scope="module")
def eight(lite: MilvusClient, bundle: Any) -> HashCollection:
    """Rows at distances 0, 1, 1, 1, 2, 2, 3, 12 from 0000; ids in an order that is not that of the distances."""
    manifest = read_bundle(bundle).manifest
    collection = HashCollection.create(lite, "eight", manifest)
    codes = {"h": 0x0000, "g": 0x8000, "c": 0x4000, "a": 0x0100, "f": 0xC000, "b": 0x0300, "e": 0xE000, "d": 0xFFF0}
    packed = np.array(list(codes.values()), ">u2").view(np.uint8).reshape(-1, 2)
    ids = tuple(codes)
    collection.upsert(Rows(ids, packed, ids, ("x", "y") * 4, ("",) * 8, ({},) * 8))
    return collection


def zero() -> Any:
    return np.zeros((1, 2), np.uint8)


@pytest.mark.parametrize(
    ("options", "ids", "complete"),
    [
        ({"k": 8}, "hacgbfed", False),  # all rows, but Milvus was not asked whether there are more
        ({"k": 9}, "hacgbfed", True),
        ({"k": 2, "complete_ties": True}, "hacg", True),
        ({"k": 4, "complete_ties": True}, "hacg", True),
        ({"k": 5, "complete_ties": True}, "hacgbf", True),
        ({"k": 9, "max_distance": 0}, "h", True),
        ({"k": 9, "max_distance": 2}, "hacgbf", True),
        ({"k": 9, "max_distance": 12}, "hacgbfed", True),
        ({"k": 2, "max_distance": 1, "complete_ties": True}, "hacg", True),
        ({"k": 9, "filter": 'label == "x"'}, "hcfe", True),
        ({"k": 2, "filter": 'label == "x"', "complete_ties": True}, "hc", True),
    ],
)
def test_worked_by_hand(eight: HashCollection, options: Any, ids: str, complete: bool) -> None:
    (found,) = search_codes(eight, zero(), SearchParams(**options))
    assert "".join(hit.id for hit in found.hits) == ids
    assert found.complete is complete


def test_without_complete_ties_the_distances_are_right_all_the_same(eight: HashCollection) -> None:
    (found,) = search_codes(eight, zero(), SearchParams(k=3))
    assert [hit.distance for hit in found.hits] == [0, 1, 1]
    assert not found.complete


def test_by_hex_and_by_id(eight: HashCollection) -> None:
    assert search_hex(eight, "FFF0", SearchParams(k=1)).hits[0].id == "d"
    assert search_id(eight, "d", SearchParams(k=1)).hits[0].distance == 0
    with pytest.raises(CodeError, match="is not a hex code"):
        search_hex(eight, "zzzz")
    with pytest.raises(CodeError, match="6 hex digits"):
        search_hex(eight, "000000")
    with pytest.raises(CodeError, match="last 4 bits"):
        search_hex(eight, "0001")
    with pytest.raises(StoreError, match="no row with the id"):
        search_id(eight, "z")


def test_many_queries_in_several_calls_keep_their_order(eight: HashCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = eight.get(list("hgcafbed")).codes
    monkeypatch.setattr("milvus_fghash.search.search.MAX_ROWS_PER_CALL", 3)
    assert [found.hits[0].id for found in search_codes(eight, codes, SearchParams(k=1))] == list("hgcafbed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "1 to 16,384"),
        ({"k": 16_385}, "1 to 16,384"),
        ({"max_distance": -1}, "0 or more"),
        ({"nprobe": 0}, "1 or more"),
    ],
)
def test_numbers_out_of_range_are_rejected(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchParams(**options)


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "ä", "x" * 256, "a\n"])
def test_names_milvus_does_not_take(name: str) -> None:
    with pytest.raises(ConfigError, match="invalid collection name"):
        check_name(name)


def test_a_bundle_of_the_same_length_but_other_weights_is_another_model(eight: HashCollection, bundle: Any) -> None:
    manifest = Bundle(bundle, read_bundle(bundle).manifest).manifest
    eight.check_model(manifest)
    with pytest.raises(StoreError, match="another state of the same training run"):
        eight.check_model(manifest.model_copy(update={"fingerprint": "f" * 64}))
    with pytest.raises(StoreError, match="another model"):
        eight.check_model(manifest.model_copy(update={"fingerprint": "f" * 64, "lineage": "cd"}))
