"""Record of imports into a collection: one small file per shard, beside the shards.

FOLDER/imports/UID/NAME.json   one folder per collection, named after its unique id

A request is recorded before it is sent: after a kill in between, it is known that there may be a job.
"""

from __future__ import annotations

from typing import Literal

from milvus_fghash.bulk_import.shards.folder import NEWER, ShardFolder
from milvus_fghash.core.file_models import Frozen, read_json, write_json


class Import(Frozen):
    """State of the import of a shard."""

    state: Literal["asked", "failed", "in"]
    """Requested, with an unknown result; failed; or imported and verified."""
    attempt: int = 1
    """Incremented after each failure: Milvus remembers the key of a failed import."""
    job: str = ""
    """Id of the job on the server; "" before its answer."""


class ImportLog:
    """The imports into one collection."""

    def __init__(self, folder: ShardFolder, collection_uid: str) -> None:
        self._folder, self._collection_uid = folder.path / "imports" / (collection_uid or "unnamed"), collection_uid

    def get(self, shard: str) -> Import | None:
        """None for a shard that was never requested; raises DataError when the file cannot be read."""
        return read_json(self._folder / f"{shard}.json", Import, NEWER)

    def put(self, shard: str, entry: Import) -> None:
        """Record an import; raises DataError when the file cannot be written."""
        write_json(self._folder / f"{shard}.json", entry)

    def key(self, shard: str, attempt: int) -> str:
        """Idempotency key of this attempt to import this shard into this collection."""
        return f"milvus-fghash {self._collection_uid} {shard} {attempt}"
