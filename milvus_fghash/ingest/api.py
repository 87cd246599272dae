"""Photos -> codes -> Milvus. Unchanged photos are skipped; photos that cannot be read are reported."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from milvus_fghash.core.atomic_io import atomic_path, write_atomic
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import DataError
from milvus_fghash.ingest.changes import Changes
from milvus_fghash.ingest.options import IngestOptions, IngestResult, RunContext
from milvus_fghash.ingest.pipeline import IngestRun
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import photo_id
from milvus_fghash.state.journal import Journal
from milvus_fghash.state.run_record import RunRecord

__all__ = ["IngestOptions", "IngestResult", "RunContext", "ingest", "write_report"]

MIN_CALL_SECONDS: Final = 10.0
"""Seconds that a call to Milvus may take, however short the retries are."""


def ingest(
    encoder: Encoder,
    dataset: Dataset,
    collection: HashCollection,
    context: RunContext | None = None,
    *,
    journal: Journal | None = None,
) -> IngestResult:
    """Encode the photos of a dataset and write them; a second run over the same photos adds nothing.

    With a journal, photos whose file and labels are unchanged are not read again, and an interrupted run is resumed; at
    most three batches are encoded twice. Memory grows with the columns of the dataset and the vanished photos.

    Args:
        journal: what Milvus acknowledged for this collection. Default: none, everything is written.

    Raises:
        ConfigError: when the namespace is invalid, or no worker starts.
        DataError: when the dataset lacks a value of a column of the collection, the report or the journal cannot be
            written, or too much would be pruned.
        StoreError: when another model filled the collection, or Milvus rejects a call; `StoreBusy` when it stays
            unavailable.
        Stopped: see `RunContext.stop`.
    """
    context = context or RunContext()
    options, report = context.options, context.report
    collection.check_model(encoder.bundle.manifest)
    # pymilvus itself waits as long as a call may take, which must not exceed the time for retries by much
    collection = replace(collection, timeout=min(collection.timeout, max(MIN_CALL_SECONDS, options.retry.seconds)))
    dataset = dataset.as_columns(collection.columns)
    photo_id(context.namespace, "")  # rejects an invalid namespace before any work
    if report:
        write_atomic(report, b"")  # rejects a report that cannot be written before any work
    journal = journal or Journal.in_memory()
    changes = Changes(dataset, context.namespace, journal, options.retry_rejected, context.stop)
    record = RunRecord.begin("ingest", encoder, collection, changes.described)
    if line := changes.relabelled():
        context.notify(line)
    run = IngestRun(encoder, collection, context, changes)
    try:
        with record.outcome():
            result = run.result()
            record.counts = result
        return result
    finally:  # an interrupted run reports, too
        record.write(journal)
        if report:
            write_report(report, journal.rejected())


class _Rejection(Protocol):
    """`Rejected`, or an entry of the journal."""

    @property
    def path(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def message(self) -> str: ...


def write_report(report: Path, rejected: Iterable[_Rejection]) -> None:
    """Write one line of JSON for each rejected photo.

    Raises:
        DataError: when it cannot be written; no partial file is left.
    """
    try:
        with atomic_path(report) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
            for one in rejected:
                line = {"path": one.path, "reason": one.reason, "message": one.message}
                file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise DataError(f"cannot write {report}: {error.strerror}") from error
