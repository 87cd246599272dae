"""Rows into Milvus in a thread of its own, while the next photos are decoded and encoded; then into the journal."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.serving.collection import HashCollection
from milvus_fghash.serving.journal import Entry, Journal
from milvus_fghash.serving.patience import Patience, Tell
from milvus_fghash.serving.rows import Rows

HANDED_OVER: Final = 1
"""Batches that may be with the writer at once. With the one that is being filled, and photos being encoded, which are
no more than a batch, three are lost to a kill at the most, which is to say encoded again."""


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
    _pool: ThreadPoolExecutor = field(init=False)
    _under_way: deque[Future[None]] = field(default_factory=deque)

    def __enter__(self) -> Writer:
        self._pool = ThreadPoolExecutor(1, "write")
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            self._wait_until(0)
        except Exception:
            if error is None:  # an error that ended the block is the one to tell
                raise
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def put(self, batch: Batch) -> None:
        """Hand over a batch; waits while `HANDED_OVER` are with the writer.

        Raises:
            StoreError: when Milvus refused an earlier one, or did not come back in time.
            DataError: when the journal cannot be written.
        """
        self._wait_until(HANDED_OVER - 1)
        self._under_way.append(self._pool.submit(self._write, batch))

    def _wait_until(self, left: int) -> None:
        while len(self._under_way) > left:
            self._under_way.popleft().result()

    def _write(self, batch: Batch) -> None:
        if self.failed:
            return
        try:
            if (rows := batch.rows) is not None:
                write = functools.partial(self.collection.upsert, rows, batch.embeddings)
                self.patience.until_it_works(write, self.stop, self.tell)
            self.journal.put(batch.entries)
        except BaseException:
            self.failed = True
            raise
        self.stored += 0 if rows is None else len(rows)
