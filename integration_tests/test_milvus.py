"""Searching on Milvus Lite and on a real server against NumPy: distances, ties, ranges, filters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from integration_tests.random_rows import manifest_of, random_rows
from milvus_fghash.core.codes import Codes, hamming, to_hex
from milvus_fghash.errors import ConfigError, StoreError
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.search.search import SearchParams, SearchResult, ids_within, search_codes, search_hex, search_id

N_ROWS, N_QUERIES, NLIST = 4000, 8, 16


@dataclass(frozen=True)
class Filled:
    """A collection, and what is in it."""

    collection: HashCollection
    rows: Rows
    queries: Codes

    @property
    def distances(self) -> Any:
        """(n_queries, n_rows) as NumPy counts them."""
        return hamming(self.queries, self.rows.codes)

    @property
    def exact(self) -> int | None:
        """The nprobe that makes the index exact."""
        return self.collection.nlist


STORES = [
    ("lite", "BIN_FLAT", 12),
    ("lite", "BIN_FLAT", 48),
    ("server", "BIN_FLAT", 12),
    ("server", "BIN_IVF_FLAT", 12),
    ("server", "BIN_IVF_FLAT", 48),
]


@pytest.fixture(scope="module", params=STORES, ids=lambda store: "-".join(map(str, store)))
def filled(request: pytest.FixtureRequest) -> Iterator[Filled]:
    """4,000 rows, on servers in sealed segments, so that the index answers and not a scan of new rows."""
    kind, index, bits = request.param
    client: MilvusClient = request.getfixturevalue(kind)
    name = f"test_contract_{index.lower()}_{bits}"
    if client.has_collection(name):
        client.drop_collection(name)
    collection = HashCollection.create(client, name, manifest_of(bits), index=index, nlist=NLIST)
    rows = random_rows(N_ROWS, bits)
    assert collection.upsert(rows) == N_ROWS
    if kind == "server":
        client.flush(name, timeout=60)
        client.release_collection(name)
        client.load_collection(name, timeout=60)
    queries = random_rows(N_QUERIES, bits, seed=1).codes
    yield Filled(collection, rows, queries)
    client.drop_collection(name)


def search(filled: Filled, **options: Any) -> list[SearchResult]:
    return search_codes(filled.collection, filled.queries, SearchParams(nprobe=filled.exact, **options))


def test_every_distance_is_numpys_and_none_nearer_is_missing(filled: Filled) -> None:
    position = {key: row for row, key in enumerate(filled.rows.ids)}
    for own, found in zip(filled.distances, search(filled, k=50), strict=True):
        assert [hit.distance for hit in found.hits] == [own[position[hit.id]] for hit in found.hits]
        assert [hit.distance for hit in found.hits] == np.sort(own)[:50].tolist()
        assert not found.complete


def test_hits_are_ordered_by_distance_and_then_id(filled: Filled) -> None:
    for found in search(filled, k=200):
        keys = [(hit.distance, hit.id) for hit in found.hits]
        assert keys == sorted(keys)
        assert len(set(keys)) == 200


def test_complete_ties_are_numpys_whole_group(filled: Filled) -> None:
    for own, found in zip(filled.distances, search(filled, k=7, complete_ties=True), strict=True):
        cut = np.sort(own)[6]
        assert {hit.id for hit in found.hits} == {filled.rows.ids[row] for row in np.flatnonzero(own <= cut)}
        assert found.complete
        assert not found.note


@pytest.mark.parametrize("within", [0, 1, 3])
def test_the_largest_distance_is_included(filled: Filled, within: int) -> None:
    for own, found in zip(filled.distances, search(filled, k=N_ROWS, max_distance=within), strict=True):
        assert {hit.id for hit in found.hits} == {filled.rows.ids[row] for row in np.flatnonzero(own <= within)}
        assert found.complete


@pytest.mark.parametrize("within", [0, 1, 3, 5])
def test_ids_within_a_distance_are_numpys_whatever_the_index(filled: Filled, within: int) -> None:
    found = ids_within(filled.collection, filled.queries, within, N_ROWS)
    for own, ids in zip(filled.distances, found, strict=True):
        assert sorted(ids) == sorted(filled.rows.ids[row] for row in np.flatnonzero(own <= within))
    assert all(len(ids) <= 2 for ids in ids_within(filled.collection, filled.queries, within, 2))


def test_a_range_gives_the_nearest_when_k_is_smaller(filled: Filled) -> None:
    for own, found in zip(filled.distances, search(filled, k=3, max_distance=filled.collection.bits), strict=True):
        assert [hit.distance for hit in found.hits] == np.sort(own)[:3].tolist()


def test_few_clusters_miss_rows_so_the_index_is_in_play(filled: Filled) -> None:
    if filled.collection.nlist is None:
        with pytest.raises(ConfigError, match="nprobe does not apply"):
            search_codes(filled.collection, filled.queries, SearchParams(nprobe=1))
        return
    exact = sum(hit.distance for found in search(filled, k=50) for hit in found.hits)
    fast = search_codes(filled.collection, filled.queries, SearchParams(k=50, nprobe=1))
    assert sum(hit.distance for found in fast for hit in found.hits) > exact
    with pytest.raises(ConfigError, match="at most 16, the nlist"):
        search_codes(filled.collection, filled.queries, SearchParams(nprobe=NLIST + 1))


def test_search_by_id_finds_the_row_itself(filled: Filled) -> None:
    row = 17
    found = search_id(
        filled.collection, filled.rows.ids[row], SearchParams(k=1, complete_ties=True, nprobe=filled.exact)
    )
    (hit,) = [hit for hit in found.hits if hit.id == filled.rows.ids[row]]
    assert (hit.distance, hit.path, hit.label) == (0, filled.rows.paths[row], filled.rows.labels[row])
    assert hit.meta == filled.rows.metas[row]
    assert hit.content_sha == "0" * 64


def test_search_by_hex_is_search_by_code(filled: Filled) -> None:
    (text,) = to_hex(filled.queries[:1])
    wanted = SearchParams(k=5, complete_ties=True, nprobe=filled.exact)
    assert search_hex(filled.collection, text, wanted) == search_codes(filled.collection, filled.queries[:1], wanted)[0]


def test_an_unknown_id_is_one_sentence(filled: Filled) -> None:
    with pytest.raises(StoreError, match=r"^the collection \w+ has no row with the id 'nobody'$"):
        search_id(filled.collection, "nobody")


@pytest.mark.parametrize(
    ("expression", "keeps"),
    [
        ('label == "class 3"', lambda number: number % 7 == 3),
        ('meta["split"] == "train"', lambda number: number % 3 == 0),
        ('path like "class 1/%"', lambda number: number % 7 == 1),
        ('meta["number"] < 100 and label != "class 0"', lambda number: number < 100 and number % 7 != 0),
    ],
)
def test_filters(filled: Filled, expression: str, keeps: Any) -> None:
    kept = [number for number in range(N_ROWS) if keeps(number)]
    for own, found in zip(filled.distances, search(filled, k=20, filter=expression), strict=True):
        assert all(keeps(hit.meta["number"]) for hit in found.hits)
        assert [hit.distance for hit in found.hits] == np.sort(own[kept])[:20].tolist()


@pytest.mark.parametrize("expression", ["label ==", "nothing == 3", "label == 'open"])
def test_a_wrong_filter_is_one_line(filled: Filled, expression: str) -> None:
    with pytest.raises(ConfigError, match=r"filter .*The columns are id, path, label") as caught:
        search(filled, filter=expression)
    assert "\n" not in str(caught.value)


def test_scan_gives_every_row_once(filled: Filled) -> None:
    pages = list(filled.collection.scan(batch=700))
    got = {key: code for page in pages for key, code in zip(page.ids, to_hex(page.codes), strict=True)}
    assert sum(map(len, pages)) == N_ROWS
    assert got == dict(zip(filled.rows.ids, to_hex(filled.rows.codes), strict=True))


def test_get_keeps_the_asked_order_and_every_column(filled: Filled) -> None:
    wanted = [filled.rows.ids[row] for row in (5, 3, 9)]
    got = filled.collection.get([wanted[0], "nobody", wanted[1], wanted[2], wanted[0]])
    assert list(got.ids) == wanted
    assert got.codes.tolist() == filled.rows.codes[[5, 3, 9]].tolist()
    assert got.paths == tuple(filled.rows.paths[row] for row in (5, 3, 9))
    assert got.metas == tuple(filled.rows.metas[row] for row in (5, 3, 9))
