"""A folder of shards, its manifest and its markers.

FOLDER/manifest.json              the model, the columns, and the planned shards
FOLDER/shard-NUMBER-DIGEST.parquet   rows
FOLDER/shard-NUMBER-DIGEST.json      its marker, written after it: checksum, number of rows, photos rejected
FOLDER/imports/UID/...            the imports into a collection, see `import_log`

A shard is finished when its marker exists. All files are written atomically.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AliasChoices, Field

from milvus_fghash.bundle.manifest import Sha256
from milvus_fghash.core.bounded_file import check_regular, open_regular
from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.file_models import Frozen, read_json, write_json
from milvus_fghash.datasets.tables.columns import Column, ColumnType
from milvus_fghash.encoding.decode_result import Rejected
from milvus_fghash.errors import ConfigError, DataError, Inconsistent
from milvus_fghash.milvus.scalar_fields import PHASH
from milvus_fghash.milvus.schema import CollectionMetadata

NEWER: Final = ". It was changed, or made by a newer milvus-fghash"
"""End of the message about an invalid file."""


class PlannedShard(Frozen):
    """A planned shard."""

    name: Annotated[str, Field(pattern=r"^shard-\d{5,}-[0-9a-f]{16}$")]
    photos: int


class Marker(Frozen):
    """The marker of a finished shard."""

    format: Literal[1] = 1
    sha256: Sha256
    """Of the Parquet file."""
    size: int
    """Of the Parquet file, in bytes."""
    rows: int
    rejected: tuple[Rejected, ...] = Field(validation_alias=AliasChoices("rejected", "refused"))
    """`refused` in markers of former versions."""
    fingerprint: str
    """Fingerprint of the model that made the codes."""
    provider: str
    """Provider on which ONNX Runtime computed them."""
    versions: dict[str, str]


class ShardsManifest(Frozen):
    """What all shards of a folder have in common, and their names."""

    format: Literal[1] = 1
    model: CollectionMetadata
    namespace: str
    source: dict[str, str]
    """The photos and their split, as in `Changes.described`."""
    shard_rows: int
    code_hex: bool
    embedding_dim: int | None
    columns: dict[str, str]
    """Name -> Arrow type of all columns."""
    typed_columns: dict[str, ColumnType] = Field(default_factory=dict)
    """Name -> type of the typed columns from the list of photos."""
    partition_key: str | None = None
    """The typed column by which the collection is partitioned."""
    shards: tuple[PlannedShard, ...]
    twice: tuple[Rejected, ...]
    """Photos that the dataset has more than once."""

    @property
    def collection_columns(self) -> tuple[Column, ...]:
        """``typed_columns``, for a collection."""
        return tuple(Column(name, kind) for name, kind in self.typed_columns.items())

    @property
    def phash(self) -> bool:
        """Whether each row keeps the perceptual hash of its photo."""
        return PHASH in self.columns and PHASH not in self.typed_columns

    @property
    def photos(self) -> int:
        """Number of photos in the dataset."""
        return sum(one.photos for one in self.shards) + len(self.twice)


class ShardFolder:
    """Reads and writes a folder of shards."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def data(self, name: str) -> Path:
        """The Parquet file of a shard."""
        return self.path / f"{name}.parquet"

    def manifest(self) -> ShardsManifest | None:
        """The manifest; None where there is none.

        Raises:
            DataError: when it cannot be read or understood.
        """
        return read_json(self.path / "manifest.json", ShardsManifest, NEWER)

    def put_manifest(self, manifest: ShardsManifest) -> None:
        """Write the manifest; raises DataError when that fails."""
        write_json(self.path / "manifest.json", manifest)

    def marker(self, name: str) -> Marker | None:
        """The marker of a finished shard; None when it is not finished, or its file is missing or has another size.

        Raises:
            DataError: when it cannot be read or understood.
        """
        marker = read_json(self.path / f"{name}.json", Marker, NEWER)
        try:
            return marker if marker and self.data(name).stat().st_size == marker.size else None
        except FileNotFoundError:
            return None

    def put_marker(self, name: str, marker: Marker) -> None:
        """Mark a shard as finished; raises DataError when that fails."""
        write_json(self.path / f"{name}.json", marker)

    def check(self, name: str, marker: Marker) -> None:
        """Compare the checksum of a shard.

        Raises:
            DataError: when its file was changed.
        """
        if sha256_of(self.data(name)) != marker.sha256:
            raise DataError(
                f"{self.data(name)} is not what was written: its checksum differs from that in {name}.json. Delete "
                "both files, and build the shards again, which builds this one"
            )

    def rejected(self) -> Iterator[Rejected]:
        """Photos that are in no shard, as far as shards are finished; raises like `marker`."""
        manifest = self.manifest()
        if manifest is None:
            return
        yield from manifest.twice
        for one in manifest.shards:
            if marker := self.marker(one.name):
                yield from marker.rejected

    def check_all(self, progress: Progress = lambda done, total: None) -> dict[str, Marker]:
        """Check that all shards are finished and unchanged; shard -> marker of those with rows.

        Raises:
            Inconsistent: when there are no shards, or some are missing.
            DataError: when a shard is damaged.
        """
        manifest = self.manifest()
        if manifest is None:
            raise Inconsistent(f"there are no shards in {self.path}; build them first")
        names = [one.name for one in manifest.shards]
        markers = {name: marker for name in names if (marker := self.marker(name))}
        if missing := len(names) - len(markers):
            raise Inconsistent(
                f"{missing} of {len(names)} shards in {self.path} are missing; build them again "
                "with the same options, which builds the missing ones"
            )
        for number, (name, marker) in enumerate(markers.items()):
            progress(number, len(names))
            self.check(name, marker)
        return {name: marker for name, marker in markers.items() if marker.rows}

    def outdated(self, planned: set[str]) -> list[str]:
        """Names of shards in the folder that are not planned, for example because their photos have changed."""
        names = {path.stem for path in self.path.glob("shard-*-*") if path.suffix in (".parquet", ".json")}
        return sorted(names - planned)

    def remove(self, name: str) -> None:
        """Delete a shard, its marker first."""
        for path in (self.path / f"{name}.json", self.data(name)):
            path.unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Create the folder and lock it; other processes get a ConfigError meanwhile. POSIX only.

        Raises:
            ConfigError: when another process has locked it.
            DataError: when the folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if (self.path / ".lock").exists():
                check_regular(self.path / ".lock")
            lock = open(self.path / ".lock", "a", encoding="utf-8")  # noqa: SIM115 - closed below
        except OSError as error:
            raise DataError(f"cannot write into {self.path}: {error.strerror}") from None
        with lock:
            if os.name == "posix":
                import fcntl

                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise ConfigError(f"another process uses the shards in {self.path}; wait for it") from None
                except OSError:  # a file system without locks: no other process is kept out
                    pass
            yield


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        DataError: when it cannot be read.
    """
    try:
        with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return hashlib.sha256(content).hexdigest()  # in one call, during which other threads of Python run
    except ValueError:  # an empty file cannot be mapped
        return hashlib.sha256().hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
