"""One shard from its photos: decoded, encoded, written, and marked as done."""

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
from milvus_fghash.ingest import symlinks
from milvus_fghash.milvus.rows import Rows, why_not_storable

Tick = Callable[[int], object]
"""Called with a number of photos that are done."""
WRITERS: Final = 2
"""One makes a table, which Python does alone; the other writes one, which Arrow does beside it."""
PACKAGES: Final = ("numpy", "Pillow", "pyarrow", "onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Ready:
    """A shard that is encoded, and not written yet.

    Attributes:
        embeddings: (n, dim), where the shards have them.
    """

    name: str
    rows: Rows
    embeddings: NDArray[np.float32] | None = None
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True)
class ShardWriter:
    """Makes shards with one open encoder."""

    encoder: Encoder
    folder: ShardFolder
    schema: Any
    """Columns of the files, as `arrow_schema` gives them."""
    decoding: DecodeOptions
    stop: threading.Event
    """When it is set, the shard under way is given up."""

    def encode(self, task: ShardTask, tick: Tick = lambda photos: None) -> Ready:
        """Photos -> rows; those that cannot be taken are set aside.

        Raises:
            Stopped: when ``stop`` was set.
            CodeError, BundleError, ConfigError: as `Encoder.run` and `decode`.
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
        place = symlinks.places(dataset, self.decoding.follow_links)
        for row in range(len(dataset)):
            if self.stop.is_set():
                raise Stopped("stopped")
            yield place(row)

    def write(self, ready: Ready) -> Marker:
        """Rows -> file, then its marker. Threads may share this.

        Raises:
            StoreError: when a text does not fit its column.
            DataError: when the disk rejects; nothing is left behind.
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
        """Whether Milvus could hold its row; one that does not fit must not stop the others."""
        path = task.dataset.paths[photo.row]
        if misfit := why_not_storable(task.dataset, photo.row, task.metas[photo.row]):
            rejected.append(RejectedSource(path, *misfit, photo.row))
            return False
        return True


def write_behind(maker: ShardWriter, shards: Iterable[Ready]) -> Iterator[Marker]:
    """Write shards in threads, while the next ones are made ready; the marker of each, in order.

    At the most `WRITERS` are in memory beside the one that is made ready. Those begun are finished, whatever happens.
    """
    with ThreadPoolExecutor(WRITERS, "shard") as pool:
        begun: deque[Future[Marker]] = deque()
        for ready in shards:
            begun.append(pool.submit(maker.write, ready))
            if len(begun) > WRITERS:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


@functools.cache
def versions() -> dict[str, str]:
    """Of the programs that decide what is in a shard."""
    return {"milvus-fghash": __version__, **versions_of(PACKAGES)}
