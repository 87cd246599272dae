"""A folder of shards, and what it says of itself.

FOLDER/manifest.json              the model, the columns, and which shards there are to be
FOLDER/shard-NUMBER-DIGEST.parquet   rows
FOLDER/shard-NUMBER-DIGEST.json      its marker, written after it: checksum, number of rows, photos rejected
FOLDER/imports/UID/...            what a collection has taken in, see `import_log`

A shard is done when its marker is there. All files appear whole or not at all.
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
"""End of the message on a file that is not understood."""


class PlannedShard(Frozen):
    """A shard that there is to be."""

    name: Annotated[str, Field(pattern=r"^shard-\d{5,}-[0-9a-f]{16}$")]
    photos: int


class Marker(Frozen):
    """That a shard is done."""

    format: Literal[1] = 1
    sha256: Sha256
    """Of the Parquet file."""
    size: int
    """Of the Parquet file, in bytes."""
    rows: int
    rejected: tuple[Rejected, ...] = Field(validation_alias=AliasChoices("rejected", "refused"))
    """Called `refused` in markers written before the name changed."""
    fingerprint: str
    """Of the model that made the codes."""
    provider: str
    """Where ONNX Runtime computed them."""
    versions: dict[str, str]


class ShardsManifest(Frozen):
    """What all shards of a folder have in common, and which they are."""

    format: Literal[1] = 1
    model: CollectionMetadata
    namespace: str
    source: dict[str, str]
    """The photos and the part of them, as `Changes.described` has it."""
    shard_rows: int
    code_hex: bool
    embedding_dim: int | None
    columns: dict[str, str]
    """Name -> type of all columns, as Arrow has it."""
    typed_columns: dict[str, ColumnType] = Field(default_factory=dict)
    """Name -> type of those of them that the list of photos gave, as a collection has it."""
    partition_key: str | None = None
    """Of these, the one by which a collection parts the rows."""
    shards: tuple[PlannedShard, ...]
    twice: tuple[Rejected, ...]
    """Photos that the listing has more than once."""

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
        """How many the listing has."""
        return sum(one.photos for one in self.shards) + len(self.twice)


class ShardFolder:
    """Reads and writes one. Relative paths are kept as they are."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def data(self, name: str) -> Path:
        """The rows of a shard."""
        return self.path / f"{name}.parquet"

    def manifest(self) -> ShardsManifest | None:
        """None where there is none.

        Raises:
            DataError: when it cannot be read or understood.
        """
        return read_json(self.path / "manifest.json", ShardsManifest, NEWER)

    def put_manifest(self, manifest: ShardsManifest) -> None:
        """Write it; raises DataError when the disk rejects."""
        write_json(self.path / "manifest.json", manifest)

    def marker(self, name: str) -> Marker | None:
        """The marker of a shard that is done; None when it is not, or its file is gone or of another size.

        Raises:
            DataError: when it cannot be read or understood.
        """
        marker = read_json(self.path / f"{name}.json", Marker, NEWER)
        try:
            return marker if marker and self.data(name).stat().st_size == marker.size else None
        except FileNotFoundError:
            return None

    def put_marker(self, name: str, marker: Marker) -> None:
        """Say that a shard is done; raises DataError when the disk rejects."""
        write_json(self.path / f"{name}.json", marker)

    def check(self, name: str, marker: Marker) -> None:
        """Read the whole file of a shard.

        Raises:
            DataError: when it is not what was written.
        """
        if sha256_of(self.data(name)) != marker.sha256:
            raise DataError(
                f"{self.data(name)} is not what was written: its checksum is another than in {name}.json. Delete both, "
                "and build the shards again, which makes this one"
            )

    def rejected(self) -> Iterator[Rejected]:
        """Photos of the listing that are in no shard, as far as shards are done; raises as `marker`."""
        manifest = self.manifest()
        if manifest is None:
            return
        yield from manifest.twice
        for one in manifest.shards:
            if marker := self.marker(one.name):
                yield from marker.rejected

    def whole(self, progress: Progress = lambda done, total: None) -> dict[str, Marker]:
        """Shard -> marker of all shards that have rows, when all are done and as they were written.

        Raises:
            Inconsistent: when there are no shards, or some are missing.
            DataError: when one is damaged.
        """
        manifest = self.manifest()
        if manifest is None:
            raise Inconsistent(f"there are no shards in {self.path}; build them first")
        names = [one.name for one in manifest.shards]
        markers = {name: marker for name in names if (marker := self.marker(name))}
        if missing := len(names) - len(markers):
            raise Inconsistent(
                f"{missing} of {len(names)} shards in {self.path} are missing; build them again "
                "with the same options as before, which makes those"
            )
        for number, (name, marker) in enumerate(markers.items()):
            progress(number, len(names))
            self.check(name, marker)
        return {name: marker for name, marker in markers.items() if marker.rows}

    def outdated(self, planned: set[str]) -> list[str]:
        """Names of shards that lie here and are not planned, such as those whose photos have changed since."""
        names = {path.stem for path in self.path.glob("shard-*-*") if path.suffix in (".parquet", ".json")}
        return sorted(names - planned)

    def remove(self, name: str) -> None:
        """Delete a shard, its marker first."""
        for path in (self.path / f"{name}.json", self.data(name)):
            path.unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and keep it for this process; others get a ConfigError meanwhile. POSIX only.

        Raises:
            ConfigError: when another process has it.
            DataError: when the disk rejects.
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
                    raise ConfigError(f"another process works on the shards in {self.path}; wait for it") from None
                except OSError:  # a file system without locks: then nobody is kept out
                    pass
            yield


def sha256_of(path: Path) -> str:
    """Of a file, hexadecimal.

    Raises:
        DataError: when it cannot be read.
    """
    try:
        with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return hashlib.sha256(content).hexdigest()  # in one go: other threads of Python run beside it
    except ValueError:  # an empty file cannot be mapped
        return hashlib.sha256().hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
