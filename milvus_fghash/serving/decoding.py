"""Photo files -> pixels in a few threads, in order, a bounded way ahead of who takes them."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.errors import ImageRefused
from milvus_fghash.images import Limits, Preprocessing, open_rgb, prepare, read_file

THREADS = min(8, os.cpu_count() or 1)
AHEAD = 4
"""Photos held for each thread, waiting or decoded."""


@dataclass(frozen=True)
class Refused:
    """A file that was not taken.

    Attributes:
        path: as it was given.
        reason: one word, as in `ImageRefused`.
        message: one sentence.
        row: its position among the paths.
    """

    path: str
    reason: str
    message: str
    row: int


@dataclass(frozen=True)
class Photo:
    """A file that was decoded.

    Attributes:
        row: its position among the paths.
        pixels: (size, size, 3) uint8.
        content_sha: SHA-256 of the file, of the same bytes that were decoded.
    """

    row: int
    pixels: NDArray[np.uint8]
    content_sha: str


def decode(paths: Iterable[Path], preprocessing: Preprocessing, limits: Limits) -> Iterator[Photo | Refused]:
    """One `Photo` or `Refused` for each path, in their order. Pillow lets other threads run while it decodes."""

    def one(row: int, path: Path) -> Photo | Refused:
        try:
            data = read_file(path, limits)
            pixels = prepare(open_rgb(data, limits), preprocessing)
        except ImageRefused as error:
            return Refused(str(path), error.reason, str(error), row)
        return Photo(row, pixels, hashlib.sha256(data).hexdigest())

    numbered = enumerate(paths)
    with ThreadPoolExecutor(THREADS, "decode") as pool:
        ahead: deque[Future[Photo | Refused]] = deque()
        try:
            ahead.extend(pool.submit(one, *item) for item in itertools.islice(numbered, THREADS * AHEAD))
            while ahead:
                result = ahead.popleft().result()
                ahead.extend(pool.submit(one, *item) for item in itertools.islice(numbered, 1))
                yield result
        finally:  # whoever stops early does not wait for the rest
            pool.shutdown(wait=False, cancel_futures=True)


def batches(
    decoded: Iterable[Photo | Refused], size: int, refuse: Callable[[Refused], object]
) -> Iterator[list[Photo]]:
    """Photos in groups of ``size``; each refused file is handed to ``refuse`` instead."""
    batch: list[Photo] = []
    for one in decoded:
        if isinstance(one, Refused):
            refuse(one)
            continue
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
