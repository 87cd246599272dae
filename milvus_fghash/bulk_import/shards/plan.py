"""Which photos go into which shard: it follows from the listing alone, so every run and every machine plans alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import Stopped
from milvus_fghash.ingest.changes import Changes
from milvus_fghash.state.journal import JournalEntry


@dataclass(frozen=True)
class Shard:
    """A run of photos that is encoded and written as one.

    Attributes:
        number: its place among the shards, from 0.
        digest: of all that decides its rows: the model, the columns, and id, file state and labels of each photo. One
            changed photo changes the digest of its shard, and of no other.
        places: (n,) places of the photos in the listing.
    """

    number: int
    digest: str
    places: NDArray[np.int64]

    @property
    def name(self) -> str:
        """What its files are called, without their endings."""
        return f"shard-{self.number:05}-{self.digest}"


@dataclass(frozen=True)
class ShardTask:
    """A shard with all that is needed to make it, so that another process can.

    Attributes:
        dataset: its photos.
        ids: (n,) primary keys.
        metas: (n,) what goes into the column `meta`.
    """

    name: str
    dataset: Dataset
    ids: tuple[str, ...]
    metas: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Plan:
    """All photos of a listing in shards. Photos that are listed again are in none."""

    changes: Changes
    shards: tuple[Shard, ...]
    twice: tuple[JournalEntry, ...]

    def task(self, shard: Shard) -> ShardTask:
        """What it takes to make one of the shards."""
        rows = shard.places.tolist()
        return ShardTask(
            shard.name,
            self.changes.dataset.take(rows),
            tuple(self.changes.id(row) for row in rows),
            tuple(self.changes.meta(row) for row in rows),
        )


def plan_shards(changes: Changes, shard_rows: int, what: Mapping[str, Any]) -> Plan:
    """Cut the photos of a listing into runs of ``shard_rows``, in its order; the last run may be shorter.

    Memory grows with the columns of the listing; of each photo, eight bytes and what `Changes` holds are kept.

    Args:
        changes: of the listing, over a journal in memory, not yet gone through.
        what: all that decides the rows beside the photos, as JSON.

    Raises:
        Stopped: when ``changes.stop`` is set.
    """
    twice: list[JournalEntry] = []
    shards = tuple(_runs(changes, twice, shard_rows, json.dumps(what, sort_keys=True)))
    if changes.cut_short:
        raise Stopped("stopped; no shard was begun, and the same command starts again")
    return Plan(changes, shards, tuple(twice))


def _runs(changes: Changes, twice: list[JournalEntry], shard_rows: int, what: str) -> Iterator[Shard]:
    places: list[int] = []
    number, digest = 0, hashlib.blake2b(what.encode(), digest_size=8)
    for todo in changes.todo():
        if isinstance(todo, JournalEntry):
            twice.append(todo)
            continue
        places.append(todo.row)
        digest.update(json.dumps([todo.id, todo.stamp]).encode())
        if len(places) == shard_rows:
            yield Shard(number, digest.hexdigest(), np.array(places))
            places, number, digest = [], number + 1, hashlib.blake2b(what.encode(), digest_size=8)
    if places:
        yield Shard(number, digest.hexdigest(), np.array(places))
