"""Photos -> pixels, in order: here, or in processes that are a bounded way ahead of who takes them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Final

from milvus_fghash.core.images import Limits, Preprocessing
from milvus_fghash.datasets.sources.location import Source
from milvus_fghash.encoding.decode_pool import AHEAD, DecoderPool
from milvus_fghash.encoding.decode_result import Photo, Rejected, decode_one
from milvus_fghash.errors import ConfigError

__all__ = ["AHEAD", "FEW", "TIMEOUT", "WORKERS", "Photo", "Rejected", "batches", "decode", "workers_for"]

WORKERS: Final = min(8, os.cpu_count() or 1) if os.name == "posix" else 0
"""Processes, unless another number is asked for."""
TIMEOUT: Final = 30.0
"""Seconds for one photo."""
LONGEST_TIMEOUT: Final = 86_400.0
FEW: Final = 64
"""Photos that are decoded sooner here than processes have started."""


def workers_for(count: int) -> int:
    """How many workers are worth their start for ``count`` photos that can be trusted not to crash a decoder."""
    return WORKERS if count > FEW else 0


def decode(
    sources: Iterable[Source], preprocessing: Preprocessing, limits: Limits, workers: int = 0, timeout: float = TIMEOUT
) -> Generator[Photo | Rejected, None, None]:
    """One `Photo` or `Rejected` for each source, in their order.

    With workers, a photo that crashes its decoder, hangs it or fills its memory (`decode_worker.memory_for`) costs only
    itself. At most ``AHEAD`` photos for each worker are asked for before they are taken; whoever stops early closes the
    iterator, which ends the workers.

    Args:
        workers: processes that decode; 0 decodes in this one, each photo when it is taken.
        timeout: seconds after which a worker is ended and its photo rejected; without workers there is no limit.

    Raises:
        ConfigError: when workers or timeout cannot be, or no worker starts.
    """
    if workers < 0 or not 0 < timeout <= LONGEST_TIMEOUT:
        raise ConfigError(
            f"workers must be 0 or more, and the timeout above 0 and at most {LONGEST_TIMEOUT:.0f} seconds; got "
            f"{workers} and {timeout}"
        )
    if workers:
        return _decode_ahead(sources, DecoderPool(preprocessing, limits, workers, timeout))
    return (decode_one(row, source, preprocessing, limits) for row, source in enumerate(sources))


def _decode_ahead(sources: Iterable[Source], pool: DecoderPool) -> Generator[Photo | Rejected, None, None]:
    numbered = enumerate(sources)
    asked = 0
    done: dict[int, Photo | Rejected] = {}
    with closing(pool):
        for row in itertools.count():
            for next_row, source in itertools.islice(numbered, row + pool.most * AHEAD - asked):
                pool.add(next_row, source)
                asked += 1
            if row == asked:
                return
            done |= {one.row: one for one in pool.step(patient=row not in done)}
            while row not in done:
                done |= {one.row: one for one in pool.step(patient=True)}
            yield done.pop(row)


def batches(
    decoded: Iterable[Photo | Rejected], size: int, reject: Callable[[Rejected], object]
) -> Iterator[list[Photo]]:
    """Photos in groups of ``size``; each rejected file is handed to ``reject`` instead."""
    batch: list[Photo] = []
    for one in decoded:
        if isinstance(one, Rejected):
            reject(one)
            continue
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
