"""What a collection was asked to take in, one small file for each shard, beside the shards.

FOLDER/imports/UID/NAME.json   UID tells the collection from others and from dropped ones of its name

A shard is written down as asked for before the server is asked: who is killed in between knows that there may be a job.
"""

from __future__ import annotations

from typing import Literal

from milvus_fghash.bulk_import.shards.folder import NEWER, ShardFolder
from milvus_fghash.core.file_models import Frozen, read_json, write_json


class Import(Frozen):
    """How far a shard is."""

    state: Literal["asked", "failed", "in"]
    """Asked for, with an end that is not known yet; failed; or in, and verified."""
    attempt: int = 1
    """Counted up after each failure: Milvus remembers the key of a failed import."""
    job: str = ""
    """Id of the job on the server; "" while no answer has come."""


class ImportLog:
    """Of one collection."""

    def __init__(self, folder: ShardFolder, collection_uid: str) -> None:
        self._folder, self._collection_uid = folder.path / "imports" / (collection_uid or "unnamed"), collection_uid

    def get(self, shard: str) -> Import | None:
        """None for a shard that was never asked for; raises DataError when it cannot be read."""
        return read_json(self._folder / f"{shard}.json", Import, NEWER)

    def put(self, shard: str, entry: Import) -> None:
        """Write it down; raises DataError when the disk rejects."""
        write_json(self._folder / f"{shard}.json", entry)

    def key(self, shard: str, attempt: int) -> str:
        """The same for every request for this import into this collection, and for no other."""
        return f"milvus-fghash {self._collection_uid} {shard} {attempt}"
