"""Import jobs by gRPC, for Milvus before 2.4."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc

from milvus_fghash.bulk_import.jobs.job import Job
from milvus_fghash.errors import StoreBusy
from milvus_fghash.milvus.errors import milvus_call
from milvus_fghash.milvus.pymilvus_compat import MilvusClient, MilvusException, lower_calls

TIMEOUT = 60.0
ENDED = {"Completed": "completed", "Failed": "failed", "Failed and cleaned": "failed"}


class GrpcJobs:
    """`Jobs` of a server without keys."""

    keyed = False

    def __init__(self, client: MilvusClient, collection: str) -> None:
        self._handler, self._of_database = lower_calls(client)
        self._collection = collection

    def create(self, file: str, key: str) -> str | None:
        try:
            with milvus_call(f"cannot import {file}"):
                # As a positional argument the timeout does not make pymilvus repeat the call, which could import twice.
                return str(
                    self._handler.do_bulk_insert(
                        self._collection, "", [file], TIMEOUT, retry_times=0, **self._of_database
                    )
                )
        except StoreBusy as error:
            if _answered(error.__cause__):
                raise
            return None

    def get(self, job: str) -> Job | None:
        try:
            with milvus_call(f"cannot ask for the import {job}"):
                return _job(self._handler.get_bulk_insert_state(int(job), timeout=TIMEOUT, **self._of_database))
        except Exception as error:
            if isinstance(error.__cause__, MilvusException) and "not found" in str(error.__cause__):
                return None
            raise

    def under_way(self) -> Iterator[Job]:
        with milvus_call(f"cannot list the imports into {self._collection}"):
            found = self._handler.list_bulk_insert_tasks(0, self._collection, timeout=TIMEOUT, **self._of_database)
        yield from (job for job in map(_job, found) if job.state == "running")


def _answered(error: BaseException | None) -> bool:
    """Whether the server returned the error, and not the connection to it."""
    return isinstance(error, MilvusException) and not isinstance(error.code, grpc.StatusCode)


def _job(found: Any) -> Job:
    infos = found.infos
    return Job(
        id=str(found.task_id),
        state=ENDED.get(found.state_name, "running"),  # type: ignore[arg-type]
        percent=int(infos.get("progress_percent", 0)),
        reason=infos.get("failed_reason", ""),
        files=infos.get("files", ""),
    )
