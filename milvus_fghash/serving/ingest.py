"""Photos -> codes -> Milvus. What is in already is left alone; a file that cannot be taken is reported."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.data.listing import Listing
from milvus_fghash.errors import DataError, FghashError, Stopped, StoreError
from milvus_fghash.images import DEFAULT_LIMITS, Limits
from milvus_fghash.serving.changes import Changes, Todo
from milvus_fghash.serving.collection import HashCollection
from milvus_fghash.serving.decoding import TIMEOUT, WORKERS, Photo, Refused, batches, decode
from milvus_fghash.serving.encoder import Encoder
from milvus_fghash.serving.journal import Entry, Journal
from milvus_fghash.serving.patience import Patience, Tell
from milvus_fghash.serving.rows import Rows, check_fits, photo_id
from milvus_fghash.serving.run_record import RunRecord
from milvus_fghash.serving.writing import Batch, Writer
from milvus_fghash.whole_file import write_whole, written

T = TypeVar("T")
Progress = Callable[[int, int], object]
"""Called with the number of photos done, and of all."""


@dataclass(frozen=True)
class IngestOptions:
    """How photos are taken in."""

    batch_rows: int = 1000
    """Rows of one write. With the longest paths and labels these are 6 MB; Milvus takes 64."""
    limits: Limits = DEFAULT_LIMITS
    workers: int = WORKERS
    """Processes that decode, as in `decode`; 0 decodes in this one."""
    timeout: float = TIMEOUT
    """Seconds for one photo, where there are workers."""
    retry_refused: bool = False
    """Try again what was refused before, though the file is the same."""
    prune: bool = False
    """Delete the rows of photos that the listing no longer has."""
    prune_at_most: float = 0.5
    """Part of a source's photos above which nothing is pruned: a disk that is not mounted looks like that."""
    patience: Patience = field(default_factory=Patience)
    """With a Milvus that is gone or overloaded."""


@dataclass(frozen=True)
class IngestResult:
    """What an ingest did."""

    stored: int
    """Rows written, new and changed ones."""
    unchanged: int
    """Photos that were in already, and are the same."""
    refused: int
    """Photos that were not taken, by this run or by one before it."""
    reasons: dict[str, int]
    """Reason -> number of refused files."""
    vanished: int
    """Photos of an earlier run that the listing no longer has."""
    pruned: int
    """How many of their rows were deleted."""
    seconds: float
    images_per_second: float
    """Files looked into per second: refused ones are, unchanged ones are not."""
    rows_in_collection: int


def ingest(
    encoder: Encoder,
    listing: Listing,
    collection: HashCollection,
    namespace: str = "",
    options: IngestOptions = IngestOptions(),
    *,
    journal: Journal | None = None,
    source: str | None = None,
    report: Path | None = None,
    stop: threading.Event | None = None,
    tell: Tell = lambda line: None,
    progress: Progress = lambda done, total: None,
) -> IngestResult:
    """Encode the photos of a listing and write them; a second run over the same photos adds nothing.

    With a journal, photos whose file and labels are the same are not read again, and an interrupted run goes on where
    it was: at the most three batches are encoded twice. Memory grows with the listing's own columns only.

    Args:
        namespace: part of every id, so that folders with the same file names can share a collection.
        journal: what Milvus has of this collection; without one, everything is written.
        source: tells the listings of one collection apart, so that a photo of one is not missed in another; by default
            the folder of the photos.
        report: file for one line of JSON (path, reason, message) for each refused file.
        stop: when it is set, what was begun is finished and written, and the run ends with `Stopped`.
        tell: called with a line that a person should read.

    Raises:
        ConfigError: when the namespace cannot be, or no worker starts.
        DataError: when the report or the journal cannot be written, or too much would be pruned.
        StoreError: when another model filled the collection, or Milvus refuses; `StoreBusy` when it did not come back.
        Stopped: see ``stop``.
    """
    collection.check_model(encoder.bundle.manifest)
    photo_id(namespace, "")  # refuses a namespace that cannot be before any work
    if report:
        write_whole(report, b"")  # a report that cannot be written is known before the work, not after it
    journal = journal or Journal.in_memory()
    stop = stop or threading.Event()
    refused: list[Entry] = []
    changes = Changes(listing, namespace, journal, source, options.retry_refused, refused.append, stop)
    record = RunRecord.begun("ingest", encoder, collection, changes.described)
    writer = Writer(collection, journal, changes.source, options.patience, tell, stop)
    run = _Run(encoder, collection, options, changes, writer, refused, progress)
    try:
        with record.outcome():
            result = run.result()
            record.counts = result
        return result
    finally:  # an interrupted run tells what it did, too
        record.write(journal)
        if report:
            _write_report(report, journal.refused())


@dataclass(frozen=True)
class _Coded:
    """What is kept of a photo between encoding and writing."""

    todo: Todo
    content_sha: str
    code: NDArray[np.uint8]
    embedding: NDArray[np.float32] | None


@dataclass
class _Run:
    """An ingest under way."""

    encoder: Encoder
    collection: HashCollection
    options: IngestOptions
    changes: Changes
    writer: Writer
    refused: list[Entry]
    """Photos refused since the last batch."""
    progress: Progress
    looked_into: int = 0
    begun: dict[int, Todo] = field(default_factory=dict)
    """Photos that are being decoded, by their position among those."""
    coded: list[_Coded] = field(default_factory=list)
    """What waits for the next batch."""

    @property
    def listing(self) -> Listing:
        return self.changes.listing

    def result(self) -> IngestResult:
        started = time.monotonic()
        with self.writer:
            try:
                self._encode_all()
            except BaseException:  # no waiting for Milvus now; what was refused is known, and costs nothing to keep
                self.changes.stop.set()
                self.coded.clear()
                with suppress(FghashError):
                    self._hand_over()
                raise
            self._hand_over()
        if self.changes.cut_short:
            raise Stopped(f"stopped; {self.writer.stored:,} more photos are in, and the same command goes on")
        vanished, pruned = self._prune()
        seconds = time.monotonic() - started
        reasons = self.changes.journal.reasons()
        return IngestResult(
            stored=self.writer.stored,
            unchanged=self.changes.unchanged,
            refused=sum(reasons.values()),
            reasons=reasons,
            vanished=vanished,
            pruned=pruned,
            seconds=seconds,
            images_per_second=self.looked_into / seconds,
            rows_in_collection=self._patiently(self.collection.count),
        )

    def _patiently(self, call: Callable[[], T]) -> T:
        return self.options.patience.until_it_works(call, self.changes.stop, self.writer.tell)

    def _encode_all(self) -> None:
        options, preprocessing = self.options, self.encoder.bundle.manifest.preprocessing
        with closing(decode(self._files(), preprocessing, options.limits, options.workers, options.timeout)) as decoded:
            for photos in batches(decoded, self.encoder.batch_size, self._refuse):
                self.coded += self._encode([photo for photo in photos if self._fits(photo)])
                if len(self.coded) >= options.batch_rows:
                    self._hand_over()
                self._report_progress()
        self._report_progress()

    def _files(self) -> Iterator[Path]:
        """Those to be decoded; which ones, is looked up as they are asked for."""
        for todo in self.changes.todo():
            self.begun[self.looked_into] = todo
            self.looked_into += 1
            yield self.listing.file(todo.row)

    def _report_progress(self) -> None:
        self.progress(self.changes.skipped + self.looked_into - len(self.begun), len(self.listing))

    def _refuse(self, one: Refused) -> None:
        todo = self.begun.pop(one.row)
        path = self.listing.paths[todo.row]
        self.refused.append(Entry(todo.id, path, todo.stamp, reason=one.reason, message=one.message))

    def _fits(self, photo: Photo) -> bool:
        """Whether path and label fit the columns; one that does not must not stop the others."""
        row = self.begun[photo.row].row
        try:
            check_fits("path", self.listing.paths[row])
            check_fits("label", self.listing.labels[row])
        except StoreError as error:
            self._refuse(Refused(self.listing.paths[row], "name", str(error), photo.row))
            return False
        return True

    def _encode(self, photos: list[Photo]) -> list[_Coded]:
        if not photos:
            return []
        pixels = np.stack([photo.pixels for photo in photos])
        wanted = () if self.collection.embedding_dim is None else ("embedding",)
        codes, *more = self.encoder.run(pixels, *wanted)
        embeddings = more[0] if more else [None] * len(photos)
        return [
            _Coded(self.begun.pop(photo.row), photo.content_sha, code, embedding)
            for photo, code, embedding in zip(photos, codes, embeddings, strict=True)
        ]

    def _hand_over(self) -> None:
        """What waits, to the writer."""
        if not self.coded and not self.refused:
            return
        paths = self.listing.paths
        entries = [Entry(one.todo.id, paths[one.todo.row], one.todo.stamp, one.content_sha) for one in self.coded]
        embeddings = [one.embedding for one in self.coded if one.embedding is not None]
        rows = self._rows() if self.coded else None
        self.writer.put(Batch(rows, np.stack(embeddings) if embeddings else None, entries + self.refused))
        self.coded.clear()
        self.refused.clear()

    def _rows(self) -> Rows:
        listing, rows = self.listing, [one.todo.row for one in self.coded]
        return Rows(
            ids=tuple(one.todo.id for one in self.coded),
            codes=np.stack([one.code for one in self.coded]),
            paths=tuple(listing.paths[row] for row in rows),
            labels=tuple(listing.labels[row] for row in rows),
            content_shas=tuple(one.content_sha for one in self.coded),
            metas=tuple(self.changes.meta(row) for row in rows),
        )

    def _prune(self) -> tuple[int, int]:
        """How many photos of earlier runs are gone, and how many of their rows were deleted."""
        gone, there = self.changes.gone(), len(self.listing)
        if not gone or not self.options.prune:
            return len(gone), 0
        if len(gone) > self.options.prune_at_most * (len(gone) + there):
            raise DataError(
                f"{len(gone):,} photos of earlier runs are gone and {there:,} are there, so nothing was pruned (all "
                "others are in): is the whole disk there? If they are to go, allow it: --prune-at-most 1"
            )
        for start in range(0, len(gone), self.options.batch_rows):
            part = gone[start : start + self.options.batch_rows]
            self._patiently(functools.partial(self.collection.delete, part))
            self.changes.journal.forget(part)
        return len(gone), len(gone)


def _write_report(report: Path, refused: Iterator[Entry]) -> None:
    try:
        with written(report) as unfinished, open(unfinished, "w", encoding="utf-8") as file:
            for one in refused:
                file.write(json.dumps({"path": one.path, "reason": one.reason, "message": one.message}) + "\n")
    except OSError as error:
        raise DataError(f"cannot write {report}: {error.strerror}") from error
