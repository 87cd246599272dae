"""A folder of shards into a collection, by Milvus' own bulk import: each row once, or a clear stop.

Milvus imports rows beside those that are there, whatever their ids. So a shard is sent only when none of its ids is in
the collection and no job for it is under way; no job is asked for again before it is known what became of the first.
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
"""Ids that are counted in one call: on a Milvus with the level Strong, each call takes 0.2 s whatever it counts."""
LONGEST_PAUSE: Final = 5.0
"""Seconds between two looks at the jobs under way."""
UNANSWERED: Final = 10.0
"""Seconds in which a job shows up in the server's list when the answer to the request for it was lost."""


@dataclass(frozen=True)
class ImportOptions:
    """How shards are imported."""

    at_once: int = 8
    """Jobs under way at the same time."""
    deadline: float = 3600.0
    """Seconds without any progress after which the run ends; jobs go on in the server."""
    sample: int = 100
    """Rows that are read back and compared with the shards."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True)
class ImportResult:
    """What an import did."""

    collection: str
    """Its name, also where an alias was given."""
    shards: int
    imported: int
    """Shards that came in by this run; the others were in before."""
    rows: int
    """Of all shards."""
    compared: int
    """Rows that were read back, all as in their shards."""
    seconds: float
    rows_in_collection: int


@dataclass
class ImportRun:
    """`result` does it all, once."""

    folder: ShardFolder
    markers: dict[str, Marker]
    """Shard -> marker, of those that have rows."""
    collection: HashCollection
    jobs: Jobs
    place: Callable[[Path], str]
    """Makes a file reachable for Milvus; its name there."""
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
        """Import what is not in yet, and verify it.

        Raises:
            StoreError: when ids of a shard are in the collection already, or the server rejects or cannot import one;
                `StoreBusy` when it did not come back, or made no progress.
            Inconsistent: when rows are not in the collection as they are in the shard.
            Stopped: when ``stop`` was set.
        """
        started = time.monotonic()
        left = [name for name in self.markers if not self._is_in(name)]
        to_send: list[str] = []
        if left:
            self._wait(self._begun(left))
            self.failed.clear()  # what failed in an earlier run is tried again
            settled = self._settle(left)
            to_send = [name for name in left if name not in settled]
            self._wait({}, to_send)
            if to_send:
                self._refresh()
        compared = self._verify([name for name in left if name not in self.failed])
        if self.failed:
            name, reason = next(iter(self.failed.items()))
            raise StoreError(
                f"{len(self.failed)} of {len(self.markers)} shards could not be imported, the others are in. {name}: "
                f"{reason}. Repair that, and the same command imports them"
            )
        rows, there = sum(marker.rows for marker in self.markers.values()), self._with_retry(self.collection.count)
        if there < rows:
            self.notify(f"{rows:,} rows were imported into {self.collection.name}, and {there:,} are there now")
        seconds = time.monotonic() - started
        return ImportResult(self.collection.name, len(self.markers), len(to_send), rows, compared, seconds, there)

    def _is_in(self, name: str) -> bool:
        entry = self.log.get(name)
        if entry is None or entry.state != "in":
            return False
        self._percent[name] = 100
        return True

    def _begun(self, names: Iterable[str]) -> dict[str, str]:
        """Jobs for these shards that an earlier run asked for and that have not ended, by shard."""
        names = list(names)
        begun: dict[str, str] = {}
        for job in self._with_retry(lambda: list(self.jobs.under_way())):
            begun |= {name: job.id for name in names if name in job.files}
        for name in names:
            entry = self.log.get(name)
            if entry and entry.state == "asked" and entry.job:
                begun.setdefault(name, entry.job)
        return begun

    def _settle(self, names: list[str]) -> set[str]:
        """Those of the shards that are in, though nobody wrote it down; the others have no row in the collection.

        Raises:
            StoreError: when a part of a shard's ids is there.
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
                    "Import into another collection, or ingest the photos themselves, which brings them up to date",
                    setting="collection_name",
                )
        return settled

    def _wait(self, begun: dict[str, str], to_send: Iterable[str] = ()) -> None:
        """Send shards, at the most ``at_once`` at a time, until all jobs have ended."""
        waiting, under_way = list(reversed(list(to_send))), dict(begun)
        pause, moved = 0.1, time.monotonic()
        while waiting or under_way:
            while waiting and len(under_way) < self.options.at_once and not self.stop.is_set():
                name = waiting.pop()
                under_way[name] = self._send(name)
            before = dict(self._percent)
            for name, job in list(under_way.items()):
                if self._has_ended(name, job):
                    del under_way[name]
            self._report_progress()
            if self.stop.is_set():
                raise Stopped(
                    f"stopped; Milvus goes on with {len(under_way)} shards, and the same command goes on from there"
                )
            if before != self._percent or not under_way:
                pause, moved = 0.1, time.monotonic()
            elif time.monotonic() - moved > self.options.deadline:
                raise StoreBusy(
                    f"Milvus made no progress with {len(under_way)} shards for {self.options.deadline:.0f} s, "
                    f"{next(iter(under_way))} among them; the same command goes on waiting"
                )
            else:
                self.stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _send(self, name: str) -> str:
        """Ask for the import of a shard; the id of its job."""
        last = self.log.get(name)
        attempt = 1 if last is None else last.attempt + (last.state == "failed")
        file, key = self._with_retry(functools.partial(self.place, self.folder.data(name))), self.log.key(name, attempt)
        self.log.put(name, Import(state="asked", attempt=attempt))
        job = self._with_retry(functools.partial(self._create, name, file, key))
        self.log.put(name, Import(state="asked", attempt=attempt, job=job))
        self._percent[name] = 0
        return job

    def _create(self, name: str, file: str, key: str) -> str:
        """The id of a new job, or of one whose answer was lost.

        Raises:
            StoreBusy: when asking again is safe.
            StoreError: when it is not known whether there is a job.
        """
        job = self.jobs.create(file, key)
        if job is not None:
            return job
        if self.jobs.keyed:
            raise StoreBusy(f"Milvus gave no answer to the import of {file}")
        end = time.monotonic() + UNANSWERED
        while not self.stop.is_set():
            found = self._with_retry(lambda: list(self.jobs.under_way()))
            if mine := [job.id for job in found if name in job.files]:
                return mine[-1]
            if time.monotonic() > end:
                break
            self.stop.wait(1)
        raise StoreError(
            f"Milvus gave no answer to the import of {file}, so there may be a job or none; the same command finds out"
        )

    def _has_ended(self, name: str, job: str) -> bool:
        found: Job | None = self._with_retry(functools.partial(self.jobs.get, job))
        if found is None:  # of a job that ended long ago; another key is needed for another one
            found = Job(job, "failed", 0, f"the server no longer knows the job {job}", "")
        self._percent[name] = 100 if found.state == "completed" else found.percent
        if found.state == "failed":
            entry = self.log.get(name) or Import(state="failed", job=job)
            self.log.put(name, entry.model_copy(update={"state": "failed"}))
            self.failed[name] = found.reason or "the server gives no reason"
        return found.state != "under way"

    def _verify(self, names: list[str]) -> int:
        """Every row of these shards once, and a sample as in the shard; the size of the sample."""
        share = -(-self.options.sample // max(1, len(names)))
        compared = 0
        for name in names:
            there, rows = self._with_retry(functools.partial(self._count, name)), self.markers[name].rows
            if there != rows:
                raise Inconsistent(
                    f"{self.collection.name} has {there:,} rows with ids of {self.folder.data(name)}, which has "
                    f"{rows:,}; see what `verify` says"
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
        unlike = [
            path
            for path, (key, one) in zip(wanted.paths, _contents(wanted).items(), strict=True)
            if stored.get(key) != one
        ]
        if unlike:
            raise Inconsistent(
                f"{len(unlike)} of {sample} rows are not in {self.collection.name} as they are in "
                f"{self.folder.data(name)}, {unlike[0]} among them"
            )
        return sample

    def _count(self, name: str) -> int:
        """Rows of the collection with ids of a shard; of an id that stands twice, both."""
        batches = read_ids(self.folder.data(name), IDS_PER_COUNT)
        client, collection = self.collection.client, self.collection.name
        return sum(count_rows(client, collection, id_is_one_of(ids)) for ids in batches)

    def _is_empty(self) -> bool:
        """Written rows are counted by a query; imported ones that are not loaded yet by the statistics alone."""

        def flushed() -> int:
            with milvus_call(f"cannot ask for the rows of {self.collection.name}"):
                stats = self.collection.client.get_collection_stats(self.collection.name, timeout=TIMEOUT)
            return int(stats["row_count"])

        return not self._with_retry(flushed) and not self._with_retry(self.collection.count)

    def _refresh(self) -> None:
        """Make imported rows visible; an old Milvus takes its time, about ten seconds."""

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
