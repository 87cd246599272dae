"""Assigns photos to shards. The plan depends on the dataset alone, so every run and every machine makes the same."""

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
    """Consecutive photos that are written into one file.

    Attributes:
        number: position among the shards, from 0.
        digest: of everything that determines its rows: the model, the columns, and id, revision and labels of each
            photo. A changed photo changes only the digest of its shard.
        places: (n,) positions of the photos in the dataset.
    """

    number: int
    digest: str
    places: NDArray[np.int64]

    @property
    def name(self) -> str:
        """Name of its files, without the extension."""
        return f"shard-{self.number:05}-{self.digest}"


@dataclass(frozen=True)
class ShardTask:
    """A shard with everything another process needs to build it.

    Attributes:
        dataset: its photos.
        ids: (n,) primary keys.
        metas: (n,) values of the column `meta`.
    """

    name: str
    dataset: Dataset
    ids: tuple[str, ...]
    metas: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Plan:
    """The shards of a dataset. Repetitions of a photo are in none."""

    changes: Changes
    shards: tuple[Shard, ...]
    twice: tuple[JournalEntry, ...]

    def task(self, shard: Shard) -> ShardTask:
        """The task to build one of the shards."""
        rows = shard.places.tolist()
        return ShardTask(
            shard.name,
            self.changes.dataset.take(rows),
            tuple(self.changes.id(row) for row in rows),
            tuple(self.changes.meta(row) for row in rows),
        )


def plan_shards(changes: Changes, shard_rows: int, what: Mapping[str, Any]) -> Plan:
    """Divide the photos of a dataset into runs of ``shard_rows``, in their order; the last one may be shorter.

    Memory grows with the columns of the dataset, by eight bytes per photo and the state of `Changes`.

    Args:
        changes: of the dataset, with a journal in memory, not yet iterated.
        what: everything that determines the rows beside the photos, as JSON.

    Raises:
        Stopped: when ``changes.stop`` is set.
    """
    twice: list[JournalEntry] = []
    shards = tuple(_runs(changes, twice, shard_rows, json.dumps(what, sort_keys=True)))
    if changes.cut_short:
        raise Stopped("stopped before the first shard; build again to start over")
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
