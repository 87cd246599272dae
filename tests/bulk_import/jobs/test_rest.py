"""The client of Milvus' import jobs, against a server that keeps the documented contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from milvus_fghash.bulk_import.jobs.rest import RestJobs
from milvus_fghash.errors import StoreBusy, StoreError
from milvus_fghash.milvus.connection import ConnectionConfig
from tests.helpers.import_server import ImportServer, import_server

SECRET = "root:Milvus-secret"


@pytest.fixture
def server() -> Iterator[ImportServer]:
    with import_server(ImportServer(token=SECRET)) as running:
        yield running


@pytest.fixture
def jobs(server: ImportServer) -> RestJobs:
    return RestJobs(ConnectionConfig(server.url, SECRET), "birds", keyed=True)


def test_a_job_from_beginning_to_end(server: ImportServer, jobs: RestJobs) -> None:
    job = jobs.create("shards/one.parquet", "key 1")
    assert job
    assert [one.id for one in jobs.under_way()] == [job]
    found = jobs.get(job)
    while found and found.state == "running":
        found = jobs.get(job)
    assert found
    assert (found.percent, found.state) == (100, "completed")
    assert "shards/one.parquet" in found.files
    assert list(jobs.under_way()) == []
    action, body, headers = server.seen[0]
    assert (action, body) == ("create", {"collectionName": "birds", "files": [["shards/one.parquet"]]})
    assert (headers["idempotency-key"], headers["authorization"]) == ("key 1", f"Bearer {SECRET}")


def test_the_database_is_named(server: ImportServer) -> None:
    RestJobs(ConnectionConfig(server.url, SECRET, "shop"), "birds", keyed=True).create("x", "key")
    assert server.seen[0][1]["dbName"] == "shop"


def test_the_same_key_is_the_same_job_a_failed_one_too(server: ImportServer, jobs: RestJobs) -> None:
    server.fails["one"] = "no such file"
    job = jobs.create("one", "a")
    assert jobs.create("one", "a") == job
    assert jobs.create("one", "b") != job
    server.finish_all()
    found = jobs.get(job or "")
    assert (found and found.state, found and found.reason) == ("failed", "no such file")
    assert jobs.create("one", "a") == job


def test_a_lost_answer_is_no_rejection(server: ImportServer, jobs: RestJobs) -> None:
    for number, end in enumerate(("lost", "cut", "503")):
        server.answers = [end]
        assert jobs.create("one", f"key {number}") is None
    assert len(server.jobs) == 1  # of the one that was done and not answered
    server.answers = ["cut"]
    with pytest.raises(StoreBusy, match="does not answer"):
        jobs.get("1")


def test_a_busy_server_is_one_to_wait_for(server: ImportServer, jobs: RestJobs) -> None:
    server.answers = ["busy"]
    with pytest.raises(StoreBusy, match="rate limit exceeded"):
        jobs.create("one", "key")
    server.most = 0
    with pytest.raises(StoreBusy, match="has reached the limit"):
        jobs.create("one", "key")


def test_a_job_that_is_not_known_is_none(jobs: RestJobs) -> None:
    assert jobs.get("7") is None


def test_other_rejections_are_told(jobs: RestJobs) -> None:
    with pytest.raises(StoreError, match=r"cannot import one: the server answers 1100 \(invalid idempotency key"):
        jobs.create("one", "k" * 257)


def test_a_token_that_is_rejected_is_not_shown(server: ImportServer) -> None:
    jobs = RestJobs(ConnectionConfig(server.url, "root:wrong-secret"), "birds", keyed=True)
    with pytest.raises(StoreError, match="the server rejected the token") as caught:
        jobs.create("one", "key")
    assert "secret" not in str(caught.value)
    assert not isinstance(caught.value, StoreBusy)


def test_a_token_goes_nowhere_else(server: ImportServer, jobs: RestJobs) -> None:
    server.answers = ["moved"]
    with pytest.raises(StoreError, match="the server answers 302"):
        jobs.create("one", "key")
    assert server.seen == []


def test_a_server_that_is_not_there() -> None:
    jobs = RestJobs(ConnectionConfig("http://127.0.0.1:9", SECRET), "birds", keyed=True)
    with pytest.raises(StoreBusy, match="does not answer") as caught:
        list(jobs.under_way())
    assert "secret" not in str(caught.value)
