"""Shards into a collection on Milvus Lite, by a server that keeps Milvus' contract: rows go in by insert, unasked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from milvus_fghash.bulk_import import run as importing
from milvus_fghash.bulk_import.import_log import Import, ImportLog
from milvus_fghash.bulk_import.jobs.rest import RestJobs
from milvus_fghash.bulk_import.run import ImportRun
from milvus_fghash.bulk_import.shards.parquet import read_rows
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import Inconsistent, Stopped, StoreBusy, StoreError
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig
from tests.helpers.import_bench import ImportBench
from tests.helpers.import_server import ENDED, ImportServer, import_server
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_catalog import draw_photos
from tests.helpers.small_rows import records_of
from tests.helpers.small_shards import SmallShards

pytestmark = pytest.mark.full


@pytest.fixture(params=[True, False], ids=["with keys", "without keys"])
def bench(
    request: pytest.FixtureRequest, shards: SmallShards, lite: MilvusClient, new_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ImportBench]:  # fmt: skip
    shards.build()
    monkeypatch.setattr(importing, "LOST_ANSWER_SECONDS", 0.2)
    collection = HashCollection.create(lite, new_name, shards.encoder.bundle.manifest)
    with import_server(ImportServer(keyed=request.param)) as server:
        made = ImportBench(shards, collection, server)
        server.imports = made.insert
        yield made


def test_rows_of_a_collection_with_embeddings_are_compared(lite: MilvusClient, new_name: str, tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "bundle", outputs=("logits", "codes", "embedding"))
    shards = SmallShards(Encoder.open(bundle), draw_photos(tmp_path / "photos"), tmp_path / "shards")
    shards.build(embedding=True)
    collection = HashCollection.create(lite, new_name, shards.encoder.bundle.manifest, embedding_dim=3)

    def imports(file: str) -> int:
        size = shards.folder.check_all()[Path(file).stem].rows
        rows = read_rows(Path(file), range(size), collection.bits)
        return collection.upsert(rows, np.ones((size, 3), np.float32))

    with import_server(ImportServer(keyed=True, imports=imports)) as server:
        assert ImportBench(shards, collection, server).run(sample=1000).compared == 40


def test_all_rows_are_in_once_and_a_second_run_adds_none(bench: ImportBench) -> None:
    result = bench.run(sample=1000)
    assert (result.shards, result.imported, result.rows, result.rows_in_collection) == (3, 3, 40, 40)
    assert result.compared == 40
    bench.check_whole()
    asked = len(bench.server.seen)
    assert bench.run().imported == 0
    assert len(bench.server.seen) == asked
    bench.check_whole()


@pytest.mark.parametrize("end", ["lost", "cut", "503", "busy"])
def test_a_request_without_an_answer_makes_no_doubles(bench: ImportBench, end: str) -> None:
    bench.server.answers = ["ok", end]  # list, then the first create
    try:
        bench.run()
    except StoreError:
        assert not bench.server.keyed  # nobody can know
        assert end != "busy"
    assert bench.run().rows_in_collection == 40
    bench.check_whole()
    assert len(bench.server.created()) == 3


@pytest.mark.parametrize("when", ["before the answer", "before the end", "after the end"])
def test_a_kill_makes_no_doubles(bench: ImportBench, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    real_create, real_ended = ImportRun._create, ImportRun._has_ended

    def create(self: ImportRun, *words: str) -> str:
        job = real_create(self, *words)
        if when == "before the answer":
            raise Killed
        return job

    def has_ended(self: ImportRun, *words: str) -> bool:
        ended = real_ended(self, *words) if when == "after the end" else True
        if ended:
            raise Killed
        return False

    monkeypatch.setattr(ImportRun, "_create", create)
    monkeypatch.setattr(ImportRun, "_has_ended", has_ended)
    with pytest.raises(Killed):
        bench.run()
    monkeypatch.undo()
    monkeypatch.setattr(importing, "LOST_ANSWER_SECONDS", 0.2)
    bench.run()
    bench.check_whole()
    assert len(bench.server.created()) == 3


@pytest.mark.parametrize("meanwhile", ["running", "ended", "forgotten"])
def test_a_job_whose_id_was_never_written_down_is_found(bench: ImportBench, meanwhile: str) -> None:
    """Even when all that is known of earlier runs was deleted."""
    jobs = RestJobs(ConnectionConfig(bench.server.url), bench.collection.name, keyed=bench.server.keyed)
    jobs.create(str(bench.shards.folder.data(bench.shards.names()[1])), "key of a run that is gone")
    if meanwhile != "running":
        bench.server.finish_all()
    if meanwhile == "forgotten":
        bench.server.jobs.clear()
    assert bench.run().imported == 2
    bench.check_whole()


def test_a_job_that_the_server_forgot_before_it_was_done_is_asked_for_again(bench: ImportBench) -> None:
    bench.server.steps = 10**9
    with pytest.raises(StoreBusy, match="import again to wait for them"):
        bench.run(deadline=0.0)
    bench.server.jobs.clear()
    bench.server.steps = 1
    bench.run()
    bench.check_whole()


def test_a_failed_shard_costs_itself_and_goes_in_later(bench: ImportBench) -> None:
    bench.server.fails["shard-00001"] = "file is truncated"
    message = r"1 of 3 shards could not be imported, all others were. shard-00001-\w+: file is truncated"
    for _ in range(2):
        with pytest.raises(StoreError, match=message):
            bench.run()
        assert bench.collection.count() == 24
    bench.server.fails.clear()
    assert bench.run().imported == 1
    bench.check_whole()


def test_rows_that_are_there_already_are_not_imported_again(bench: ImportBench) -> None:
    rows = read_rows(bench.shards.folder.data(bench.shards.names()[1]), range(3), 12)
    bench.collection.upsert(rows)
    with pytest.raises(StoreError, match=r"3 rows with ids of .*shard-00001.* are in .* already.*nothing was sent"):
        bench.run()
    assert (bench.server.created(), bench.collection.count()) == ([], 3)
    bench.collection.delete(rows.ids)
    bench.run()
    bench.check_whole()


def test_other_rows_may_be_there(bench: ImportBench) -> None:
    rows = read_rows(bench.shards.folder.data(bench.shards.names()[0]), range(2), 12)
    bench.collection.upsert(type(rows)(("a", "b"), rows.codes, *[getattr(rows, name) for name in (
        "paths", "labels", "content_shas", "metas")]))  # fmt: skip
    assert bench.run().rows_in_collection == 42


@pytest.mark.parametrize("wrong", ["code", "label", "missing", "twice"])
def test_what_is_not_as_in_the_shard_is_seen(bench: ImportBench, wrong: str) -> None:
    def imports(file: str) -> int:
        size = bench.insert(file)
        rows = read_rows(Path(file), [0], 12)
        (row,), code = records_of(bench.collection, rows), rows.codes[0]
        if wrong == "missing":
            bench.collection.delete(rows.ids)
        elif wrong == "twice":
            bench.collection.client.insert(bench.collection.name, [row])
        else:
            changed = code ^ np.uint8(128) if wrong == "code" else code
            row |= {"code": changed.tobytes(), "label": "x" if wrong == "label" else row["label"]}
            bench.collection.client.upsert(bench.collection.name, [row])
        return size

    bench.server.imports = imports
    with pytest.raises(Inconsistent):
        bench.run(sample=40)


def test_at_most_so_many_jobs_are_under_way(bench: ImportBench) -> None:
    most = 0
    real = bench.server.answer

    def answer(*request: Any) -> Any:
        nonlocal most
        found = real(*request)
        most = max(most, sum(job["state"] not in ENDED for job in bench.server.jobs.values()))
        return found

    bench.server.answer = answer  # type: ignore[assignment, method-assign]
    bench.run(at_once=2)
    assert most == 2
    bench.check_whole()


def test_a_run_that_is_asked_to_stop_sends_no_more(bench: ImportBench) -> None:
    bench.stop.set()
    with pytest.raises(Stopped, match="Import again to wait for them"):
        bench.run()
    assert bench.server.created() == []
    bench.stop.clear()
    bench.run()
    bench.check_whole()


def test_rows_that_were_deleted_since_are_told(bench: ImportBench) -> None:
    bench.run()
    bench.collection.delete(read_rows(bench.shards.folder.data(bench.shards.names()[0]), [0], 12).ids)
    assert bench.run().rows_in_collection == 39
    assert bench.messages == [f"40 rows were imported into {bench.collection.name}, which has 39 now"]


def test_the_log_is_of_one_collection(shards: SmallShards) -> None:
    shards.build()
    name = shards.names()[0]
    ImportLog(shards.folder, "one").put(name, Import(state="in", attempt=2, job="7"))
    assert ImportLog(shards.folder, "one").get(name) == Import(state="in", attempt=2, job="7")
    assert ImportLog(shards.folder, "two").get(name) is None
    keys = {ImportLog(shards.folder, uid).key(name, attempt) for uid in ("one", "two") for attempt in (1, 2)}
    assert len(keys) == 4
    assert all(key.isascii() and key.isprintable() and len(key) <= 256 for key in keys)
