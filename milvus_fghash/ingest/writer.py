"""Writes batches of rows to Milvus, then to the journal, in threads, while the next photos are decoded and encoded.

Two batches are written at the same time: one is prepared, or recorded in the journal, while Milvus processes the other.
No photo is in two batches of a run, so their order does not matter.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.callbacks import Notify
from milvus_fghash.errors import RowsTooLarge
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.retry import RetryPolicy
from milvus_fghash.milvus.rows import FieldValues, Rows
from milvus_fghash.state.journal import Journal, JournalEntry

MAX_BATCHES: Final = 2
"""Batches that the writer holds at once. With the one that is being filled, a kill loses at most three batches, which
are encoded again."""

TOO_LARGE: Final = "row-too-large"
"""Reason of a photo whose row is larger than a message to Milvus may be."""


@dataclass(frozen=True)
class Batch:
    """Rows, and the journal entries that record them once they are written.

    Attributes:
        embeddings: (n, dim), where the collection has them.
        entries: of the rows, and of photos rejected meanwhile.
    """

    rows: Rows | None
    embeddings: NDArray[np.float32] | None
    entries: Sequence[JournalEntry]


@dataclass
class Writer:
    """Writes batches. Use it in a ``with`` block, whose end waits for all of them.

    An error in a thread is raised by one of the next calls of `put`, or by the end of the block. After it no further
    batch is written, and no batch waits for Milvus any longer.
    """

    collection: HashCollection
    journal: Journal
    retry: RetryPolicy
    notify: Notify
    stop: threading.Event
    """Ends waiting for Milvus. It is also set here, on an error."""
    stored: int = 0
    """Rows that Milvus acknowledged and the journal has."""
    _error: BaseException | None = None
    """The first one."""
    _last_message: str = ""
    _threads: ThreadPoolExecutor = field(init=False)
    _running: deque[Future[None]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Writer:
        self._threads = ThreadPoolExecutor(MAX_BATCHES, "write")
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            self._wait_until(0)
        except Exception:
            if error is None:  # the error that ended the block is the one to raise
                raise
        finally:
            self._threads.shutdown()

    def put(self, batch: Batch) -> None:
        """Write a batch in a thread; waits while there are `MAX_BATCHES`.

        Raises:
            StoreError: when Milvus rejected an earlier batch, or stayed unavailable for too long.
            DataError: when the journal cannot be written.
        """
        rows = batch.rows
        values = None if rows is None else self.collection.field_values(rows, batch.embeddings)
        self._wait_until(MAX_BATCHES - 1)
        self._running.append(self._threads.submit(self._write, values, batch))

    def _wait_until(self, left: int) -> None:
        while len(self._running) > left:
            self._running.popleft().result()

    def _write(self, values: FieldValues | None, batch: Batch) -> None:
        """Write to Milvus, then record in the journal what was written, also after another batch failed."""
        rejected: frozenset[str] = frozenset()
        try:
            if values is not None:
                if self._error is not None:
                    raise self._error
                write = functools.partial(self.collection.write, values)
                try:
                    self.retry.call(write, self.stop, self._notify_once)
                except RowsTooLarge as error:
                    rejected = error.ids
            self.journal.put([_rejected(one) if one.id in rejected else one for one in batch.entries])
        except BaseException as error:
            self._error = self._error or error
            self.stop.set()
            raise
        with self._lock:
            self.stored += (0 if values is None else len(values["id"])) - len(rejected)

    def _notify_once(self, line: str) -> None:
        """Two batches that wait for the same Milvus have the same message."""
        with self._lock:
            if line != self._last_message:
                self._last_message = line
                self.notify(line)


def _rejected(entry: JournalEntry) -> JournalEntry:
    """The entry of a photo whose row is too large."""
    message = f"the row of {entry.path} is larger than a message to this Milvus may be; keep fewer or shorter columns"
    return replace(entry, content_sha="", reason=TOO_LARGE, message=message)
