"""Photos -> pixels, in order: in this process, or in worker processes that decode a bounded number of photos ahead."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing

from milvus_fghash.core.images import Preprocessing
from milvus_fghash.datasets.sources.location import Source
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_pool import AHEAD, DecoderPool
from milvus_fghash.encoding.decode_result import Photo, Rejected, RejectedSource, decode_one

__all__ = ["AHEAD", "Photo", "Rejected", "RejectedSource", "batches", "decode"]


def decode(
    sources: Iterable[Source], preprocessing: Preprocessing, options: DecodeOptions
) -> Generator[Photo | RejectedSource, None, None]:
    """One `Photo` or `RejectedSource` for each source, in their order.

    With workers, a photo that crashes its decoder, hangs it or fills its memory (`decode_worker.memory_for`) is the
    only one that is rejected. At most ``AHEAD`` sources per worker are read ahead of the caller. A caller that stops
    early closes the iterator, which ends the workers.

    Raises:
        ConfigError: when no worker starts.
    """
    if not options.worker_count:
        return (decode_one(row, source, preprocessing, options.limits) for row, source in enumerate(sources))
    return _decode_ahead(sources, DecoderPool(preprocessing, options))


def _decode_ahead(sources: Iterable[Source], pool: DecoderPool) -> Generator[Photo | RejectedSource, None, None]:
    numbered = enumerate(sources)
    requested = 0
    done: dict[int, Photo | RejectedSource] = {}
    with closing(pool):
        for row in itertools.count():
            for next_row, source in itertools.islice(numbered, row + pool.max_workers * AHEAD - requested):
                pool.add(next_row, source)
                requested += 1
            if row == requested:
                return
            done |= {one.row: one for one in pool.step(wait_for_result=row not in done)}
            while row not in done:
                done |= {one.row: one for one in pool.step(wait_for_result=True)}
            yield done.pop(row)


def batches(
    decoded: Iterable[Photo | RejectedSource], size: int, reject: Callable[[RejectedSource], object]
) -> Iterator[list[Photo]]:
    """Photos in groups of ``size``; each rejected photo is passed to ``reject`` instead."""
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
