"""Builds one shard: its photos are decoded, encoded and written, then it is marked as finished."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash._version import __version__
from milvus_fghash.bulk_import.shards.folder import Marker, ShardFolder, sha256_of
from milvus_fghash.bulk_import.shards.parquet import to_table, write_table
from milvus_fghash.bulk_import.shards.plan import ShardTask
from milvus_fghash.core.atomic_io import atomic_path
from milvus_fghash.core.environment import versions_of
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.sources.location import Source
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import Photo, Rejected, RejectedSource
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import DataError, Stopped
from milvus_fghash.milvus.rows import Rows, why_not_storable

Tick = Callable[[int], object]
"""Called with a number of finished photos."""
WRITER_THREADS: Final = 2
"""One builds a table in Python, while Arrow writes another one."""
PACKAGES: Final = ("numpy", "Pillow", "pyarrow", "onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Ready:
    """An encoded shard that is not written yet.

    Attributes:
        embeddings: (n, dim), where the shards have them.
    """

    name: str
    rows: Rows
    embeddings: NDArray[np.float32] | None = None
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True)
class ShardWriter:
    """Builds shards with one open encoder."""

    encoder: Encoder
    folder: ShardFolder
    schema: Any
    """Columns of the files, from `arrow_schema`."""
    decoding: DecodeOptions
    stop: threading.Event
    """When it is set, the current shard is abandoned."""

    def encode(self, task: ShardTask, tick: Tick = lambda photos: None) -> Ready:
        """Decode and encode the photos of a shard.

        Raises:
            Stopped: when ``stop`` was set.
            CodeError, BundleError, ConfigError: like `Encoder.run` and `decode`.
        """
        dataset = task.dataset
        also = ("embedding",) if "embedding" in self.schema.names else ()
        rejected: list[RejectedSource] = []
        columns = self.encoder.empty_columns(*also)
        done = 0
        with closing(
            self.encoder.encode_sources(
                self._files(dataset),
                *also,
                reject=rejected.append,
                wanted=lambda photo: self._fits(task, photo, rejected),
                options=self.decoding,
            )
        ) as encoded:
            for photos, outputs in encoded:
                columns.add(photos, outputs)
                tick(len(columns) + len(rejected) - done)
                done = len(columns) + len(rejected)
        tick(len(dataset) - done)
        codes, *more = columns.outputs
        rows = Rows.of_dataset(
            dataset,
            columns.rows,
            ids=[task.ids[row] for row in columns.rows],
            codes=codes,
            content_shas=columns.content_shas,
            metas=[task.metas[row] for row in columns.rows],
            phashes=columns.phashes,
        )
        reported = (
            Rejected(dataset.paths[one.row], one.reason, one.message)
            for one in sorted(rejected, key=lambda one: one.row)
        )
        return Ready(task.name, rows, more[0] if more else None, tuple(reported))

    def _files(self, dataset: Dataset) -> Iterator[Source]:
        source_of = self.decoding.sources_of(dataset)
        for row in range(len(dataset)):
            if self.stop.is_set():
                raise Stopped("stopped")
            yield source_of(row)

    def write(self, ready: Ready) -> Marker:
        """Write the file of a shard, then its marker. Threads may share this.

        Raises:
            StoreError: when a text does not fit its column.
            DataError: when the file cannot be written; no partial file is left.
        """
        path = self.folder.data(ready.name)
        table = to_table(ready.rows, ready.embeddings, self.schema)
        try:
            with atomic_path(path) as unfinished:
                write_table(table, unfinished)
                digest, size = sha256_of(unfinished), unfinished.stat().st_size
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror or error}") from error
        marker = Marker(
            sha256=digest,
            size=size,
            rows=len(ready.rows),
            rejected=ready.rejected,
            fingerprint=self.encoder.bundle.manifest.fingerprint,
            provider=self.encoder.provider,
            versions=versions(),
        )
        self.folder.put_marker(ready.name, marker)
        return marker

    def _fits(self, task: ShardTask, photo: Photo, rejected: list[RejectedSource]) -> bool:
        """Whether Milvus can store the row of a photo; a photo that does not fit must not stop the others."""
        path = task.dataset.paths[photo.row]
        if misfit := why_not_storable(task.dataset, photo.row, task.metas[photo.row]):
            rejected.append(RejectedSource(path, *misfit, photo.row))
            return False
        return True


def write_behind(maker: ShardWriter, shards: Iterable[Ready]) -> Iterator[Marker]:
    """Write shards in threads while the next one is encoded; the marker of each, in order.

    At most `WRITER_THREADS` shards are in memory beside the one that is encoded. Started writes are always finished.
    """
    with ThreadPoolExecutor(WRITER_THREADS, "shard") as pool:
        running: deque[Future[Marker]] = deque()
        for ready in shards:
            running.append(pool.submit(maker.write, ready))
            if len(running) > WRITER_THREADS:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that determine the content of a shard."""
    return {"milvus-fghash": __version__, **versions_of(PACKAGES)}
