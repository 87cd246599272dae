"""Imports a folder of shards into a collection with the bulk import of Milvus: each row once, or an error.

Milvus imports rows beside existing ones with the same ids. So a shard is sent only when none of its ids is in the
collection and no job for it is running; no job is requested again before the result of the first one is known.
"""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from milvus_fghash.bulk_import.import_log import Import, ImportLog
from milvus_fghash.bulk_import.jobs.job import Job, Jobs
from milvus_fghash.bulk_import.shards.folder import Marker, ShardFolder
from milvus_fghash.bulk_import.shards.parquet import read_ids, read_rows
from milvus_fghash.core.callbacks import Notify, Progress
from milvus_fghash.errors import Inconsistent, Stopped, StoreBusy, StoreError
from milvus_fghash.milvus.collection import HashCollection, count_rows
from milvus_fghash.milvus.errors import LOAD_TIMEOUT, TIMEOUT, milvus_call
from milvus_fghash.milvus.expressions import id_is_one_of
from milvus_fghash.milvus.retry import RetryPolicy
from milvus_fghash.milvus.rows import Rows

T = TypeVar("T")
IDS_PER_COUNT: Final = 10_000
"""Ids that are counted in one call: with consistency level Strong, each call takes 0.2 s whatever it counts."""
MAX_POLL_SECONDS: Final = 5.0
"""Longest time between two requests for the state of the jobs."""
LOST_ANSWER_SECONDS: Final = 10.0
"""Time in which a job appears in the server's list after the answer to its request was lost."""


@dataclass(frozen=True)
class ImportOptions:
    """How shards are imported.

    Attributes:
        at_once: import jobs that run at the same time.
        deadline: seconds without any progress after which the run ends; jobs continue in the server.
        sample: rows that are read back and compared with the shards.
        retry: how long to wait for a Milvus that is unavailable or overloaded.

    Examples:
        >>> ImportOptions(at_once=4).sample
        100
    """

    at_once: int = 8
    deadline: float = 3600.0
    sample: int = 100
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True)
class ImportResult:
    """What an import did.

    Attributes:
        collection: name of the collection, also where an alias was given.
        shards: shards with rows.
        imported: shards that this run imported; the others were imported before.
        rows: rows of all shards.
        compared: rows that were read back, all equal to those of their shards.
        seconds: duration of the run.
        rows_in_collection: rows after the run.
    """

    collection: str
    shards: int
    imported: int
    rows: int
    compared: int
    seconds: float
    rows_in_collection: int


@dataclass
class ImportRun:
    """One import; call `result` once."""

    folder: ShardFolder
    markers: dict[str, Marker]
    """Shard -> marker, of the shards with rows."""
    collection: HashCollection
    jobs: Jobs
    publish: Callable[[Path], str]
    """Makes a file readable for Milvus, and returns its name there."""
    options: ImportOptions
    stop: threading.Event
    notify: Notify
    progress: Progress
    failed: dict[str, str] = field(default_factory=dict)
    """Shard -> why the server could not import it."""
    _percent: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = ImportLog(self.folder, self.collection.uid)

    def result(self) -> ImportResult:
        """Import the missing shards, and verify them.

        Raises:
            StoreError: when ids of a shard are already in the collection, or the server rejects a shard; `StoreBusy`
                when it stays unavailable or makes no progress.
            Inconsistent: when rows of the collection differ from those of the shard.
            Stopped: when ``stop`` was set.
        """
        started = time.monotonic()
        left = [name for name in self.markers if not self._is_in(name)]
        to_send: list[str] = []
        if left:
            self._wait(self._started(left))
            self.failed.clear()  # failures of earlier runs are tried again
            settled = self._settle(left)
            to_send = [name for name in left if name not in settled]
            self._wait({}, to_send)
            if to_send:
                self._refresh()
        compared = self._verify([name for name in left if name not in self.failed])
        if self.failed:
            name, reason = next(iter(self.failed.items()))
            raise StoreError(
                f"{len(self.failed)} of {len(self.markers)} shards could not be imported, all others were. {name}: "
                f"{reason}. Fix the cause, and import them again"
            )
        rows, present = sum(marker.rows for marker in self.markers.values()), self._with_retry(self.collection.count)
        if present < rows:
            self.notify(f"{rows:,} rows were imported into {self.collection.name}, which has {present:,} now")
        seconds = time.monotonic() - started
        return ImportResult(self.collection.name, len(self.markers), len(to_send), rows, compared, seconds, present)

    def _is_in(self, name: str) -> bool:
        entry = self.log.get(name)
        if entry is None or entry.state != "in":
            return False
        self._percent[name] = 100
        return True

    def _started(self, names: Iterable[str]) -> dict[str, str]:
        """Running jobs for these shards that an earlier run requested, by shard."""
        names = list(names)
        started: dict[str, str] = {}
        for job in self._with_retry(lambda: list(self.jobs.under_way())):
            started |= {name: job.id for name in names if name in job.files}
        for name in names:
            entry = self.log.get(name)
            if entry and entry.state == "asked" and entry.job:
                started.setdefault(name, entry.job)
        return started

    def _settle(self, names: list[str]) -> set[str]:
        """The shards that are imported although it was not recorded; the others have no row in the collection.

        Raises:
            StoreError: when a part of a shard's ids is in the collection.
        """
        if self._is_empty():
            return set()
        self._refresh()
        settled: set[str] = set()
        for name in names:
            there, rows = self._with_retry(functools.partial(self._count, name)), self.markers[name].rows
            if there == rows:
                settled.add(name)
                self._percent[name] = 100
            elif there:
                raise StoreError(
                    f"{there:,} rows with ids of {self.folder.data(name)} ({rows:,} rows) are in "
                    f"{self.collection.name} already, and Milvus would import them a second time; nothing was sent. "
                    "Import into another collection, or update the rows with an ingest of the photos",
                    setting="collection_name",
                )
        return settled

    def _wait(self, running: dict[str, str], to_send: Iterable[str] = ()) -> None:
        """Send shards, at most ``at_once`` at a time, until all jobs have ended."""
        waiting, running = list(reversed(list(to_send))), dict(running)
        pause, last_progress = 0.1, time.monotonic()
        while waiting or running:
            while waiting and len(running) < self.options.at_once and not self.stop.is_set():
                name = waiting.pop()
                running[name] = self._send(name)
            before = dict(self._percent)
            for name, job in list(running.items()):
                if self._has_ended(name, job):
                    del running[name]
            self._report_progress()
            if self.stop.is_set():
                raise Stopped(f"stopped; Milvus continues with {len(running)} shards. Import again to wait for them")
            if before != self._percent or not running:
                pause, last_progress = 0.1, time.monotonic()
            elif time.monotonic() - last_progress > self.options.deadline:
                raise StoreBusy(
                    f"Milvus made no progress with {len(running)} shards for {self.options.deadline:.0f} s, such as "
                    f"{next(iter(running))}; import again to wait for them"
                )
            else:
                self.stop.wait(pause)
                pause = min(2 * pause, MAX_POLL_SECONDS)

    def _send(self, name: str) -> str:
        """Request the import of a shard, and return the id of its job."""
        last = self.log.get(name)
        attempt = 1 if last is None else last.attempt + (last.state == "failed")
        file = self._with_retry(functools.partial(self.publish, self.folder.data(name)))
        key = self.log.key(name, attempt)
        self.log.put(name, Import(state="asked", attempt=attempt))
        job = self._with_retry(functools.partial(self._create, name, file, key))
        self.log.put(name, Import(state="asked", attempt=attempt, job=job))
        self._percent[name] = 0
        return job

    def _create(self, name: str, file: str, key: str) -> str:
        """The id of a new job, or of one whose answer was lost.

        Raises:
            StoreBusy: when the request can be repeated.
            StoreError: when it is not known whether there is a job.
        """
        job = self.jobs.create(file, key)
        if job is not None:
            return job
        if self.jobs.keyed:
            raise StoreBusy(f"Milvus gave no answer to the import of {file}")
        end = time.monotonic() + LOST_ANSWER_SECONDS
        while not self.stop.is_set():
            found = self._with_retry(lambda: list(self.jobs.under_way()))
            if mine := [job.id for job in found if name in job.files]:
                return mine[-1]
            if time.monotonic() > end:
                break
            self.stop.wait(1)
        raise StoreError(
            f"Milvus gave no answer to the import of {file}, so there may be a job or none; import again to find out"
        )

    def _has_ended(self, name: str, job: str) -> bool:
        found: Job | None = self._with_retry(functools.partial(self.jobs.get, job))
        if found is None:  # the job ended long ago; a new one needs another key
            found = Job(job, "failed", 0, f"the server no longer knows the job {job}", "")
        self._percent[name] = 100 if found.state == "completed" else found.percent
        if found.state == "failed":
            entry = self.log.get(name) or Import(state="failed", job=job)
            self.log.put(name, entry.model_copy(update={"state": "failed"}))
            self.failed[name] = found.reason or "the server gives no reason"
        return found.state != "running"

    def _verify(self, names: list[str]) -> int:
        """Check that every row of these shards is there once, and compare a sample; its size."""
        share = -(-self.options.sample // max(1, len(names)))
        compared = 0
        for name in names:
            there, rows = self._with_retry(functools.partial(self._count, name)), self.markers[name].rows
            if there != rows:
                raise Inconsistent(
                    f"{self.collection.name} has {there:,} rows with ids of {self.folder.data(name)}, which has "
                    f"{rows:,} rows; verify the collection"
                )
            compared += self._compare(name, min(share, rows))
            entry = self.log.get(name) or Import(state="in")
            self.log.put(name, entry.model_copy(update={"state": "in"}))
        return compared

    def _compare(self, name: str, sample: int) -> int:
        places = sorted(random.Random(name).sample(range(self.markers[name].rows), sample))
        of = self.collection
        wanted = read_rows(self.folder.data(name), places, of.bits, of.column_names, of.has_phash)
        found = self._with_retry(functools.partial(self.collection.get, wanted.ids))
        stored = _contents(found)
        differing = [
            path
            for path, (key, one) in zip(wanted.paths, _contents(wanted).items(), strict=True)
            if stored.get(key) != one
        ]
        if differing:
            raise Inconsistent(
                f"{len(differing)} of {sample} rows of {self.collection.name} differ from {self.folder.data(name)}, "
                f"such as {differing[0]}"
            )
        return sample

    def _count(self, name: str) -> int:
        """Rows of the collection with ids of a shard, duplicates included."""
        batches = read_ids(self.folder.data(name), IDS_PER_COUNT)
        client, collection = self.collection.client, self.collection.name
        return sum(count_rows(client, collection, id_is_one_of(ids)) for ids in batches)

    def _is_empty(self) -> bool:
        """A query counts written rows; only the statistics count imported rows that are not loaded yet."""

        def flushed() -> int:
            with milvus_call(f"cannot ask for the rows of {self.collection.name}"):
                stats = self.collection.client.get_collection_stats(self.collection.name, timeout=TIMEOUT)
            return int(stats["row_count"])

        return not self._with_retry(flushed) and not self._with_retry(self.collection.count)

    def _refresh(self) -> None:
        """Make imported rows visible; an old Milvus takes about ten seconds."""

        def refresh() -> None:
            with milvus_call(f"cannot load {self.collection.name}"):
                self.collection.client.refresh_load(self.collection.name, timeout=LOAD_TIMEOUT)

        self._with_retry(refresh)

    def _report_progress(self) -> None:
        done = sum(self.markers[name].rows * percent // 100 for name, percent in self._percent.items())
        self.progress(done, sum(marker.rows for marker in self.markers.values()))

    def _with_retry(self, call: Callable[[], T]) -> T:
        return self.options.retry.call(call, self.stop, self.notify)


def _contents(rows: Rows) -> dict[str, tuple[Any, ...]]:
    """Id -> everything else a row holds, for comparison."""
    columns = (
        [code.tobytes() for code in rows.codes],
        rows.paths,
        rows.labels,
        rows.content_shas,
        rows.metas,
        rows.phashes_or_unknown,
        *rows.columns.values(),
    )
    return dict(zip(rows.ids, zip(*columns, strict=True), strict=True))
