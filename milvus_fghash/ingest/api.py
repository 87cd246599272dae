"""Photos -> codes -> Milvus. What is in already is left alone; a file that cannot be taken is reported."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from milvus_fghash.core.atomic_io import atomic_path, write_atomic
from milvus_fghash.core.callbacks import Notify, Progress
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.sources.location import Url
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import DataError
from milvus_fghash.ingest.changes import Changes
from milvus_fghash.ingest.options import DEFAULT_OPTIONS, IngestOptions, IngestResult
from milvus_fghash.ingest.pipeline import IngestRun
from milvus_fghash.ingest.writer import Writer
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import photo_id
from milvus_fghash.state.journal import Journal
from milvus_fghash.state.run_record import RunRecord

__all__ = ["IngestOptions", "IngestResult", "ingest", "write_report"]

SHORTEST: Final = 10.0
"""Seconds that a call to Milvus may take for who has no retry."""


def ingest(
    encoder: Encoder,
    dataset: Dataset,
    collection: HashCollection,
    namespace: str = "",
    options: IngestOptions = DEFAULT_OPTIONS,
    *,
    journal: Journal | None = None,
    photos: Path | Url | None = None,
    part: str = "",
    report: Path | None = None,
    stop: threading.Event | None = None,
    notify: Notify = lambda line: None,
    progress: Progress = lambda done, total: None,
) -> IngestResult:
    """Encode the photos of a listing and write them; a second run over the same photos adds nothing.

    With a journal, photos whose file and labels are the same are not read again, and an interrupted run goes on where
    it was: at the most three batches are encoded twice. Memory grows with the listing's own columns and with the number
    of photos that are gone.

    Args:
        namespace: part of every id, so that folders with the same file names can share a collection.
        journal: what Milvus has of this collection; without one, everything is written.
        photos: where the listing comes from, which tells it from others of the collection: a photo of one is not missed
            in another. By default its folder.
        part: the split that was asked for, likewise.
        report: file for one line of JSON (path, reason, message) for each rejected file.
        stop: when it is set, what was begun is finished and written, and the run ends with `Stopped`.
        notify: called with a line that a person should read.

    Raises:
        ConfigError: when the namespace cannot be, or no worker starts.
        DataError: when the listing lacks a value of a column of the collection, the report or the journal cannot be
            written, or too much would be pruned.
        StoreError: when another model filled the collection, or Milvus rejects; `StoreBusy` when it did not come back.
        Stopped: see ``stop``.
    """
    collection.check_model(encoder.bundle.manifest)
    # pymilvus waits by itself as long as a call may take, and that must not be long where nobody wants to wait
    collection = replace(collection, timeout=min(collection.timeout, max(SHORTEST, options.retry.seconds)))
    dataset = dataset.as_columns(collection.columns)
    photo_id(namespace, "")  # rejects a namespace that cannot be before any work
    if report:
        write_atomic(report, b"")  # a report that cannot be written is known before the work, not after it
    journal = journal or Journal.in_memory()
    stop = stop or threading.Event()
    changes = Changes(dataset, namespace, journal, photos, part, options.retry_rejected, stop=stop)
    record = RunRecord.begin("ingest", encoder, collection, changes.described)
    if line := changes.relabelled():
        notify(line)
    writer = Writer(collection, journal, options.retry, notify, stop)
    run = IngestRun(encoder, collection, options, changes, writer, progress)
    try:
        with record.outcome():
            result = run.result()
            record.counts = result
        return result
    finally:  # an interrupted run tells what it did, too
        record.write(journal)
        if report:
            write_report(report, ((one.path, one.reason, one.message) for one in journal.rejected()))


def write_report(report: Path, rejected: Iterable[tuple[str, str, str]]) -> None:
    """One line of JSON for each (path, reason, message).

    Raises:
        DataError: when it cannot be written; nothing is left behind.
    """
    try:
        with atomic_path(report) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
            for path, reason, message in rejected:
                file.write(json.dumps({"path": path, "reason": reason, "message": message}) + "\n")
    except OSError as error:
        raise DataError(f"cannot write {report}: {error.strerror}") from error
