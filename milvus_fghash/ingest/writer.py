"""Rows into Milvus in threads of their own, while the next photos are decoded and encoded; then into the journal.

Two batches are under way at once: one is made ready to be sent, or written down, while Milvus is at the other. No photo
stands in two batches of a run, so that it does not matter which is in first.
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

HANDED_OVER: Final = 2
"""Batches that may be with the writer at once. With the one that is being filled, three are lost to a kill at the most,
which is to say encoded again."""

TOO_LARGE: Final = "row-too-large"
"""Reason of a photo with more text beside it than Milvus takes in a message."""


@dataclass(frozen=True)
class Batch:
    """Rows, and what is written down when they are in.

    Attributes:
        embeddings: (n, dim), where the collection has them.
        entries: of the rows, and of photos rejected meanwhile.
    """

    rows: Rows | None
    embeddings: NDArray[np.float32] | None
    entries: Sequence[JournalEntry]


@dataclass
class Writer:
    """Takes batches. Use it in a ``with`` block, whose end waits for what was handed over.

    What goes wrong in a thread is raised by one of the next calls of `put`, or by the end of the block. No batch is
    begun after it, and none goes on to wait for Milvus.
    """

    collection: HashCollection
    journal: Journal
    retry: RetryPolicy
    notify: Notify
    stop: threading.Event
    """Ends waiting for Milvus. It is also set here, when something goes wrong."""
    stored: int = 0
    """Rows that are in, and in the journal."""
    _error: BaseException | None = None
    """What went wrong first."""
    _told: str = ""
    _threads: ThreadPoolExecutor = field(init=False)
    _under_way: deque[Future[None]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Writer:
        self._threads = ThreadPoolExecutor(HANDED_OVER, "write")
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            self._wait_until(0)
        except Exception:
            if error is None:  # an error that ended the block is the one to tell
                raise
        finally:
            self._threads.shutdown()

    def put(self, batch: Batch) -> None:
        """Hand over a batch; waits while `HANDED_OVER` are with the writer.

        Raises:
            StoreError: when Milvus rejected an earlier one, or did not come back in time.
            DataError: when the journal cannot be written.
        """
        rows = batch.rows
        values = None if rows is None else self.collection.field_values(rows, batch.embeddings)
        self._wait_until(HANDED_OVER - 1)
        self._under_way.append(self._threads.submit(self._write, values, batch))

    def _wait_until(self, left: int) -> None:
        while len(self._under_way) > left:
            self._under_way.popleft().result()

    def _write(self, values: FieldValues | None, batch: Batch) -> None:
        """Into Milvus, and what is in into the journal, also when another batch has failed meanwhile."""
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
        """Two batches that wait for the same Milvus have the same to say."""
        with self._lock:
            if line != self._told:
                self._told = line
                self.notify(line)


def _rejected(entry: JournalEntry) -> JournalEntry:
    """Of a photo whose row Milvus does not take."""
    message = f"the row of {entry.path} is larger than a message that this Milvus takes; keep fewer or shorter columns"
    return replace(entry, content_sha="", reason=TOO_LARGE, message=message)
