"""Which rows a wish to delete means, and deleting them. Photo files are never touched."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from milvus_fghash.core.bounded_file import MAX_LIST_BYTES
from milvus_fghash.core.text_file import read_text
from milvus_fghash.errors import ConfigError
from milvus_fghash.milvus import alias_history
from milvus_fghash.milvus.aliases import all_aliases, exists
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.expressions import check_quotes
from milvus_fghash.milvus.own_ids import row_ids
from milvus_fghash.milvus.pymilvus_compat import MilvusClient
from milvus_fghash.milvus.rows import MAX_BYTES, check_fits, is_utf8
from milvus_fghash.milvus.schema import check_name, metadata_of
from milvus_fghash.state.journal import Journal, journal_file
from milvus_fghash.state.migration_record import record_file

IDS_PER_PAGE: Final = 10_000
"""Ids read in one call; Milvus gives 16,384 rows at most."""


@dataclass(frozen=True)
class Deletion:
    """What was asked for, and what became of it.

    Attributes:
        collection: its name.
        found: rows that fit.
        missing: ids that were asked for and are not there.
        deleted: rows that are gone; 0 as long as nobody said yes.
        rows_in_collection: rows that are left.
    """

    collection: str
    found: int
    missing: int
    deleted: int
    rows_in_collection: int


def delete_ids(
    collection: HashCollection, ids: Sequence[str], yes: bool = False, journal: Journal | None = None
) -> Deletion:
    """Delete rows by id; without ``yes``, only count them. An id that stands twice counts once.

    Args:
        journal: of the collection; it is told, so that no ingest brings the rows back.

    Raises:
        StoreError: when an id cannot be one, or Milvus rejects.
    """
    asked = list(dict.fromkeys(ids))
    for key in asked:
        check_fits("id", key)
    there = list(itertools.chain.from_iterable(collection.existing_ids(asked)))
    if yes:
        check_quotes(collection.client, there, "delete")  # before the journal is told of rows that will stay
    if yes and journal:  # before they go, and all: whatever stops this in the middle, nothing of it comes back
        journal.mark_deleted(asked)
    deleted = collection.delete(there) if yes else 0
    return Deletion(collection.name, len(there), len(asked) - len(there), deleted, collection.count())


def delete_named(
    collection: HashCollection,
    texts: Sequence[str],
    yes: bool = False,
    journal: Journal | None = None,
    namespace: str | None = None,
) -> Deletion:
    """`delete_ids` of the rows that texts name by their ids or own ids, as `row_ids` takes them.

    Raises:
        StoreError: when several rows have an own id, or Milvus rejects; nothing was deleted then.
    """
    named = row_ids(collection, texts, namespace)
    # What names no row is counted as missing; as the id of a row the journal is told of it, if it can be one.
    unknown = [text for text in dict.fromkeys(texts) if text not in named]
    possible = [text for text in unknown if is_utf8(text) and len(text.encode()) <= MAX_BYTES["id"]]
    found = delete_ids(collection, [*named.values(), *possible], yes, journal)
    return replace(found, missing=len(unknown))


def delete_where(
    collection: HashCollection, filter: str, yes: bool = False, journal: Journal | None = None
) -> Deletion:
    """Delete the rows that fit a filter; without ``yes``, only count them. ``journal`` as in `delete_ids`.

    Their ids are read first, and rows are deleted by id: a filter then means what it means to a search, and rows that
    are written meanwhile stay.

    Raises:
        ConfigError: when the filter is empty, for that would mean every row, or cannot be read.
        StoreError: when Milvus rejects.
    """
    if not filter.strip():
        raise ConfigError("an empty filter fits every row; to remove them all, drop the collection")
    ids = sorted({one["id"] for page in collection.pages(["id"], IDS_PER_PAGE, filter) for one in page})
    return delete_ids(collection, ids, yes, journal)


def drop_with_journal(client: MilvusClient, name: str, folder: Path) -> None:
    """Drop a collection of ours and its journal in ``folder``; not while a run is writing to it.

    If it is a previous version of an alias, that is forgotten.

    Raises:
        ConfigError: when another process has the journal open.
        StoreError: as `HashCollection.drop`.
    """
    is_alias = check_name(name) in all_aliases(client)
    metadata = metadata_of(client, name) if not is_alias and exists(client, name) else None
    if metadata is None:
        HashCollection.drop(client, name)  # which says why not
        return
    uid = metadata.collection_uid
    with Journal.open_if_exists(folder, uid):
        alias_history.forget(client, name)
        HashCollection.drop(client, name)
    for file in (journal_file(folder, uid), record_file(folder, uid)):  # closed, so that SQLite leaves none beside it
        file.unlink(missing_ok=True)


def read_ids(path: Path) -> list[str]:
    """Ids of a text file, one a line; blank lines are passed over.

    Raises:
        ConfigError: when the file cannot be read, is not UTF-8, or holds no id.
    """
    lines = read_text(path, "the ids in", max_bytes=MAX_LIST_BYTES).split("\n")
    ids = [line.rstrip("\r") for line in lines if line.strip()]
    if not ids:
        raise ConfigError(f"there is no id in {path}; one id a line is expected")
    return ids
