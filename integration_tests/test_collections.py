"""Writing, and what a collection is, on Milvus Lite and on a real server."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from integration_tests.random_rows import manifest_of, random_rows
from milvus_fghash.core.codes import to_hex
from milvus_fghash.errors import CodeError, StoreError
from milvus_fghash.milvus import collection as collection_module
from milvus_fghash.milvus import indexes
from milvus_fghash.milvus import settings as settings_module
from milvus_fghash.milvus.aliases import exists
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.collections import CollectionInfo, list_collections
from milvus_fghash.milvus.connection import ConnectionConfig, connect, probe
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.milvus.schema import index_params
from milvus_fghash.milvus.settings import open_or_create
from milvus_fghash.search.search import SearchParams, search_codes, search_hex


def test_a_second_upsert_adds_nothing_and_the_last_one_counts(client: MilvusClient, dropped: str) -> None:
    collection = HashCollection.create(client, dropped, manifest_of(12))
    rows = random_rows(300, 12)
    for _ in range(2):
        collection.upsert(rows)
        assert collection.count() == 300
    changed = replace(rows, codes=np.ascontiguousarray(rows.codes[::-1]), labels=("new",) * 300)
    twice = Rows.concatenate([rows, changed], 2)  # each id twice in one call
    assert collection.upsert(twice) == 300
    got = collection.get(rows.ids)  # at once: this read is the one that must wait for the write
    assert collection.count() == 300
    assert got.codes.tolist() == changed.codes.tolist()
    assert set(got.labels) == {"new"}


def test_rows_of_a_wrong_width_are_rejected_on_every_road(client: MilvusClient, dropped: str) -> None:
    collection = HashCollection.create(client, dropped, manifest_of(12))
    rows = random_rows(10, 12)
    collection.upsert(rows)
    # Milvus counts the bytes of all rows together, so two rows of 1 and 3 bytes would pass; here none can
    for codes in (np.zeros((10, 1), np.uint8), np.zeros((10, 3), np.uint8), np.zeros((20, 1), np.uint8)[::2]):
        with pytest.raises(CodeError, match="must have shape"):
            collection.upsert(replace(rows, codes=codes))
        with pytest.raises(CodeError, match="must have shape"):
            search_codes(collection, codes)
    with pytest.raises(CodeError, match="uint8"):
        collection.upsert(replace(rows, codes=rows.codes.astype(np.int64)))
    with pytest.raises(CodeError, match="last 4 bits"):
        collection.upsert(replace(rows, codes=np.full((10, 2), 0xFF, np.uint8)))
    with pytest.raises(CodeError, match="hex digits"):
        search_hex(collection, "0f30ff")
    assert collection.count() == 10
    assert collection.get(rows.ids).codes.tolist() == rows.codes.tolist()


def test_12_bits_stand_in_16(client: MilvusClient, dropped: str) -> None:
    HashCollection.create(client, dropped, manifest_of(12))
    fields = {one["name"]: one for one in client.describe_collection(dropped)["fields"]}
    assert list(fields) == ["id", "code", "path", "label", "content_sha", "meta", "phash"]
    assert fields["code"]["params"]["dim"] == 16
    assert fields["code"]["type"] is DataType.BINARY_VECTOR
    assert fields["id"]["is_primary"]
    assert fields["meta"]["type"] is DataType.JSON


def test_perceptual_hashes_are_kept_beside_the_codes(client: MilvusClient, dropped: str) -> None:
    """Their column is known by its description; all 64 bits come back."""
    collection = HashCollection.create(client, dropped, manifest_of(12))
    assert collection.has_phash
    rows = replace(random_rows(4, 12), phashes=(1, -1, 2**63 - 1, -(2**63)))
    collection.upsert(rows)
    assert collection.get(rows.ids).phashes == rows.phashes


def test_another_model_is_rejected(client: MilvusClient, dropped: str) -> None:
    mine = manifest_of(12)
    HashCollection.create(client, dropped, mine)
    same_run = mine.model_copy(update={"fingerprint": "1" * 64})
    stranger = same_run.model_copy(update={"lineage": "beef"})
    with pytest.raises(StoreError, match="another state of the same training run"):
        HashCollection.open(client, dropped, same_run)
    with pytest.raises(StoreError, match=r"another model \(\w+, 12 bits\)"):
        open_or_create(client, dropped, stranger)
    assert HashCollection.open(client, dropped).metadata.fingerprint == mine.fingerprint


def test_a_collection_that_is_not_ours_is_left_alone(client: MilvusClient, dropped: str) -> None:
    schema = client.create_schema(description="somebody's")
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(dropped, schema=schema)
    with pytest.raises(StoreError, match="not created by milvus-fghash"):
        open_or_create(client, dropped, manifest_of(12))
    with pytest.raises(StoreError, match="so it is not dropped"):
        HashCollection.drop(client, dropped)
    assert client.has_collection(dropped)
    assert dropped not in {info.name for info in list_collections(client)}


def test_what_failed_half_way_is_dropped(client: MilvusClient, dropped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong_index(*_: object) -> Any:
        wrong = MilvusClient.prepare_index_params()
        wrong.add_index("code", index_type="NO_SUCH_INDEX", metric_type="HAMMING")
        return wrong

    with monkeypatch.context() as patch:
        patch.setattr("milvus_fghash.milvus.collection.index_params", wrong_index)
        with pytest.raises(StoreError, match="NO_SUCH_INDEX"):
            HashCollection.create(client, dropped, manifest_of(12))
    assert not client.has_collection(dropped)
    HashCollection.create(client, dropped, manifest_of(12))
    with pytest.raises(StoreError, match="exists"):
        HashCollection.create(client, dropped, manifest_of(12))
    assert client.has_collection(dropped)


def test_lite_rejects_ivf_before_anything_is_created(lite: MilvusClient, new_name: str) -> None:
    with pytest.raises(StoreError, match="Milvus Lite has no index BIN_IVF_FLAT for binary vectors"):
        HashCollection.create(lite, new_name, manifest_of(12), index="BIN_IVF_FLAT")
    assert not lite.has_collection(new_name)


def test_an_index_that_was_dropped_is_named_and_built_again_beside_the_rows(
    client: MilvusClient, dropped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding_dim = 4 if probe(client).several_vectors else None
    monkeypatch.setattr(indexes, "INDEX_GRACE_SECONDS", 0.5)
    rows, another = random_rows(30, 12), manifest_of(12).model_copy(update={"fingerprint": "f" * 64})
    collection = HashCollection.create(client, dropped, manifest_of(12), embedding_dim=embedding_dim)
    collection.upsert(rows, np.ones((30, 4), np.float32) if embedding_dim else None)
    lost = ["code", "embedding"] if embedding_dim else ["code"]
    for fields in (lost, lost[-1:]):
        client.release_collection(dropped)
        for field in fields:
            client.drop_index(dropped, field)
        named = " and ".join(fields)
        with pytest.raises(StoreError, match=f"has no index of {named}: it was dropped.* All rows are there; ingest"):
            HashCollection.open(client, dropped)
        assert describe(client, dropped).problem == "an index was dropped, or not built yet; ingest builds it"
        messages: list[str] = []
        with pytest.raises(StoreError, match="another state of the same training"):
            open_or_create(client, dropped, another, notify=messages.append)
        again = open_or_create(client, dropped, manifest_of(12), notify=messages.append)
        assert messages == [f"the collection {dropped} had no index of {named}; it was built again; all rows are there"]
        assert (again.count(), again.index, describe(client, dropped).problem) == (30, "BIN_FLAT", None)
        assert search_codes(again, rows.codes[:1], SearchParams(1, consistency="Strong"))[0].hits[0].distance == 0


def test_one_without_an_index_can_be_dropped_and_one_that_measures_otherwise_is_named(
    client: MilvusClient, dropped: str
) -> None:
    HashCollection.create(client, dropped, manifest_of(12))
    client.release_collection(dropped)
    client.drop_index(dropped, "code")
    other = MilvusClient.prepare_index_params()
    other.add_index("code", index_type="BIN_FLAT", metric_type="JACCARD")
    client.create_index(dropped, other)
    with pytest.raises(StoreError, match="has the metric JACCARD, expected HAMMING"):
        open_or_create(client, dropped, manifest_of(12))
    client.drop_index(dropped, "code")
    HashCollection.drop(client, dropped)
    assert not client.has_collection(dropped)


def describe(client: MilvusClient, name: str) -> CollectionInfo:
    return next(info for info in list_collections(client) if info.name == name)


def test_a_run_that_comes_second_opens_what_the_first_has_made(
    client: MilvusClient, dropped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = HashCollection.create(client, dropped, manifest_of(12))
    seen = iter([False, False])  # by both looks before it was there
    for module in (collection_module, settings_module):
        monkeypatch.setattr(module, "exists", lambda *asked: next(seen, None) is not False and exists(*asked))
    assert open_or_create(client, dropped, manifest_of(12)).metadata == first.metadata
    with pytest.raises(StopIteration):
        next(seen)


def test_several_first_runs_at_once_use_one_collection(
    server_target: ConnectionConfig, client: MilvusClient, dropped: str
) -> None:
    at_once = threading.Barrier(3)

    def run(_: int) -> str:
        with closing(connect(server_target)) as own:
            at_once.wait()
            made = open_or_create(own, dropped, manifest_of(12))
            made.upsert(random_rows(5, 12))
            return made.uid

    if probe(client).kind == "server":
        with ThreadPoolExecutor(3) as pool:
            assert len(set(pool.map(run, range(3)))) == 1
        assert HashCollection.open(client, dropped).count() == 5


def test_who_fails_does_not_drop_what_another_run_has_completed(
    client: MilvusClient, dropped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_another(*asked: Any) -> Any:
        client.create_index(dropped, index_params(*asked))
        wrong = MilvusClient.prepare_index_params()
        wrong.add_index("code", index_type="NO_SUCH_INDEX", metric_type="HAMMING")
        return wrong

    with monkeypatch.context() as patch:
        patch.setattr(collection_module, "index_params", of_another)
        with pytest.raises(StoreError, match="cannot create"):
            HashCollection.create(client, dropped, manifest_of(12))
    assert HashCollection.open(client, dropped).count() == 0


def test_the_code_as_text_beside_the_vector(client: MilvusClient, dropped: str) -> None:
    collection = HashCollection.create(client, dropped, manifest_of(12), code_hex=True)
    rows = random_rows(20, 12)
    collection.upsert(rows)
    got = client.query(dropped, ids=list(rows.ids), output_fields=["code_hex"], consistency_level="Strong")
    assert {one["id"]: one["code_hex"] for one in got} == dict(zip(rows.ids, to_hex(rows.codes), strict=True))
    assert HashCollection.open(client, dropped).has_code_hex


def test_embeddings_beside_the_codes(client: MilvusClient, dropped: str) -> None:
    if not probe(client).several_vectors:
        with pytest.raises(StoreError, match="one vector per row"):
            HashCollection.create(client, dropped, manifest_of(12), embedding_dim=4)
        assert not client.has_collection(dropped)
        return
    collection = HashCollection.create(client, dropped, manifest_of(12), embedding_dim=4)
    rows = random_rows(20, 12)
    embeddings = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    with pytest.raises(CodeError, match=r"shape \(20, 4\), got None"):
        collection.upsert(rows)
    collection.upsert(rows, embeddings)
    (near,) = client.search(dropped, data=[embeddings[3]], anns_field="embedding", limit=1)
    assert near[0]["id"] == rows.ids[3]
    assert HashCollection.open(client, dropped).embedding_dim == 4


def test_strange_texts_come_back_as_they_were(client: MilvusClient, dropped: str) -> None:
    collection = HashCollection.create(client, dropped, manifest_of(12))
    paths = ('it\'s "quoted".jpg', "back\\slash.jpg", "Ärger/鳥 🐦.jpg", "<b>&amp;.jpg", "line\nbreak.jpg")
    rows = replace(random_rows(5, 12), paths=paths, labels=paths, metas=tuple({"name": path} for path in paths))
    collection.upsert(rows)
    got = collection.get(rows.ids)
    assert got.paths == got.labels == paths
    assert [meta["name"] for meta in got.metas] == list(paths)


def test_a_text_that_does_not_fit_is_rejected_and_nothing_is_written(client: MilvusClient, dropped: str) -> None:
    collection = HashCollection.create(client, dropped, manifest_of(12))
    rows = random_rows(5, 12)
    for column, value, message in (
        ("paths", "é" * 2049, "4,098 bytes"),  # 2,049 characters would fit, their 4,098 bytes do not
        ("labels", "x" * 1025, "1,025 bytes"),
        ("paths", "bad\udcff.jpg", "not valid UTF-8"),
    ):
        wrong: dict[str, Any] = {column: (*getattr(rows, column)[:4], value)}
        with pytest.raises(StoreError, match=message):
            collection.upsert(replace(rows, **wrong))
    with pytest.raises(StoreError, match="meta"):
        collection.upsert(replace(rows, metas=({"x": float("nan")},) * 5))
    assert collection.count() == 0
    collection.upsert(replace(rows, paths=(*rows.paths[:4], "é" * 2048)))
    assert collection.count() == 5


@pytest.mark.parametrize("level", ["Strong", "Session", "Bounded", "Eventually"])
def test_consistency_levels(client: MilvusClient, dropped: str, level: Any) -> None:
    collection = HashCollection.create(client, dropped, manifest_of(12), consistency=level)
    kind = "lite" if collection.consistency != level else "server"
    assert collection.consistency in (level, "Strong"), "Milvus Lite is always Strong"
    rows = random_rows(10, 12)
    collection.upsert(rows)
    assert collection.count() == 10, kind
    (found,) = search_codes(collection, rows.codes[:1], SearchParams(k=10, consistency="Strong"))
    assert len(found.hits) == 10


def test_collections_are_listed_with_their_model(client: MilvusClient, dropped: str) -> None:
    manifest = manifest_of(12)
    collection = HashCollection.create(client, dropped, manifest)
    collection.upsert(random_rows(10, 12))
    (info,) = [info for info in list_collections(client) if info.name == dropped]
    assert (info.bits, info.rows, info.index) == (12, 10, "BIN_FLAT")
    assert (info.fingerprint, info.lineage, info.method) == (manifest.fingerprint, manifest.lineage, manifest.method)
    description = json.loads(client.describe_collection(dropped)["description"])["milvus_fghash"]
    assert description["bit_order"] == "big"
    client.release_collection(dropped)
    (info,) = [info for info in list_collections(client) if info.name == dropped]
    assert info.rows in (10, None), "a server cannot count what is not loaded"
    assert HashCollection.open(client, dropped).count() == 10, "opening loads"


def test_a_collection_that_cannot_be_understood_does_not_hide_the_others(
    client: MilvusClient, dropped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    HashCollection.create(client, dropped, manifest_of(12))
    newer, describe = f"{dropped}_newer", client.describe_collection
    description = json.dumps({"milvus_fghash": {"format": 2, "method": "lsh"}})
    monkeypatch.setattr(client, "list_collections", lambda **_: [newer, dropped])
    monkeypatch.setattr(
        client,
        "describe_collection",
        lambda name, **_: {"description": description} if name == newer else describe(name),
    )
    readable, unreadable = list_collections(client)
    assert (readable.name, readable.bits, readable.problem) == (dropped, 12, None)
    assert (unreadable.name, unreadable.bits) == (newer, None)
    assert "made by a newer milvus-fghash" in str(unreadable.problem)


def test_a_missing_collection_is_one_sentence(client: MilvusClient, dropped: str) -> None:
    with pytest.raises(StoreError, match=f"there is no collection {dropped}"):
        HashCollection.open(client, dropped)
    with pytest.raises(StoreError, match=f"there is no collection {dropped}"):
        HashCollection.drop(client, dropped)
    assert not client.has_collection(dropped)


def test_a_group_beyond_what_milvus_returns_is_said(client: MilvusClient, dropped: str) -> None:
    collection = HashCollection.create(client, dropped, manifest_of(12))
    n = 16_400
    ids = tuple(str(number) for number in range(n))
    blank = ("",) * n
    same = Rows(ids, np.zeros((n, 2), np.uint8), ids, blank, blank, ({},) * n)
    collection.upsert(same)
    (found,) = search_codes(collection, same.codes[:1], SearchParams(k=3, complete_ties=True, consistency="Strong"))
    assert len(found.hits) == 16_384
    assert not found.complete
    assert "at least 16,384 rows are within distance 0" in found.note
