"""Rows into Milvus in a thread of its own, while the next photos are decoded and encoded; then into the journal.

A batch is written down, by another thread, when Milvus has said that it is in, while Milvus is at the next one.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.serving.collection import HashCollection
from milvus_fghash.serving.journal import Entry, Journal
from milvus_fghash.serving.patience import Patience, Tell
from milvus_fghash.serving.rows import Rows

HANDED_OVER: Final = 2
"""Batches that may be with the writer at once: one on its way to Milvus, one that is written down or waits. With the
one that is being filled, three are lost to a kill at the most, which is to say encoded again."""


@dataclass(frozen=True)
class Batch:
    """Rows, and what is written down when they are in.

    Attributes:
        embeddings: (n, dim), where the collection has them.
        entries: of the rows, and of photos refused meanwhile.
    """

    rows: Rows | None
    embeddings: NDArray[np.float32] | None
    entries: Sequence[Entry]


@dataclass
class Writer:
    """Takes batches in order. Use it in a ``with`` block, whose end waits for what was handed over.

    What goes wrong in the thread is raised by the next `put`, or by the end of the block; nothing is written after it.
    """

    collection: HashCollection
    journal: Journal
    patience: Patience
    tell: Tell
    stop: threading.Event
    stored: int = 0
    """Rows that are in, and in the journal."""
    failed: bool = False
    """Whether a batch could not be written; those behind it are not tried."""
    _write_thread: ThreadPoolExecutor = field(init=False)
    _note_thread: ThreadPoolExecutor = field(init=False)
    _under_way: deque[Future[Future[None]]] = field(default_factory=deque)

    def __enter__(self) -> Writer:
        self._write_thread, self._note_thread = ThreadPoolExecutor(1, "write"), ThreadPoolExecutor(1, "note")
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            self._wait_until(0)
        except Exception:
            if error is None:  # an error that ended the block is the one to tell
                raise
        finally:
            self._write_thread.shutdown(cancel_futures=True)
            self._note_thread.shutdown()

    def put(self, batch: Batch) -> None:
        """Hand over a batch; waits while `HANDED_OVER` are with the writer.

        Raises:
            StoreError: when Milvus refused an earlier one, or did not come back in time.
            DataError: when the journal cannot be written.
        """
        rows = batch.rows
        records = [] if rows is None else self.collection.records(rows, batch.embeddings)  # while Milvus is at others
        self._wait_until(HANDED_OVER - 1)
        self._under_way.append(self._write_thread.submit(self._write, records, batch))

    def _wait_until(self, left: int) -> None:
        while len(self._under_way) > left:
            self._under_way.popleft().result().result()

    def _write(self, records: Sequence[dict[str, Any]], batch: Batch) -> Future[None]:
        with self._failing():
            if records and not self.failed:
                write = functools.partial(self.collection.write, records)
                self.patience.until_it_works(write, self.stop, self.tell)
            elif records:
                raise CancelledError
        return self._note_thread.submit(self._note, batch)

    def _note(self, batch: Batch) -> None:
        """What is in is written down, also when a later batch has failed meanwhile."""
        with self._failing():
            self.journal.put(batch.entries)
        self.stored += 0 if batch.rows is None else len(batch.rows)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Nothing is sent after something went wrong."""
        try:
            yield
        except BaseException:
            self.failed = True
            raise
