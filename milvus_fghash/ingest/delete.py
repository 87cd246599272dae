"""Deletion of rows and collections, with their journal. Photo files are never touched."""

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
"""Ids read in one call; Milvus returns at most 16,384 rows."""


@dataclass(frozen=True)
class Deletion:
    """What a deletion found and deleted.

    Attributes:
        collection: its name.
        found: rows that match.
        missing: ids without a row.
        deleted: deleted rows; 0 in a dry run.
        rows_in_collection: rows after the deletion.
    """

    collection: str
    found: int
    missing: int
    deleted: int
    rows_in_collection: int


def delete_ids(
    collection: HashCollection, ids: Sequence[str], yes: bool = False, journal: Journal | None = None
) -> Deletion:
    """Delete rows by id; without ``yes``, only count them. A repeated id counts once.

    Args:
        journal: of the collection; it records the deletion, so that no ingest writes the rows again.

    Raises:
        StoreError: when an id is invalid, or Milvus rejects the call.
    """
    asked = list(dict.fromkeys(ids))
    for key in asked:
        check_fits("id", key)
    there = list(itertools.chain.from_iterable(collection.existing_ids(asked)))
    if yes:
        check_quotes(collection.client, there, "delete")  # before the journal records rows that will stay
    if yes and journal:  # first, and all of them: an interruption must not let an ingest write rows again
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
    """`delete_ids` of rows that are given by id or own id, as for `row_ids`.

    Raises:
        StoreError: when several rows have an own id, or Milvus rejects a call; no row was deleted then.
    """
    named = row_ids(collection, texts, namespace)
    # A text without a row is counted as missing. The journal records it if it can be an id.
    unknown = [text for text in dict.fromkeys(texts) if text not in named]
    possible = [text for text in unknown if is_utf8(text) and len(text.encode()) <= MAX_BYTES["id"]]
    found = delete_ids(collection, [*named.values(), *possible], yes, journal)
    return replace(found, missing=len(unknown))


def delete_where(
    collection: HashCollection, filter: str, yes: bool = False, journal: Journal | None = None
) -> Deletion:
    """Delete the rows that match a filter; without ``yes``, only count them. ``journal`` as in `delete_ids`.

    The ids are read first, and rows are deleted by id: the filter then selects the same rows as in a search, and rows
    that are written meanwhile stay.

    Raises:
        ConfigError: when the filter is empty, which would match every row, or invalid.
        StoreError: when Milvus rejects a call.
    """
    if not filter.strip():
        raise ConfigError("an empty filter matches every row; to remove all rows, drop the collection")
    ids = sorted({one["id"] for page in collection.pages(["id"], IDS_PER_PAGE, filter) for one in page})
    return delete_ids(collection, ids, yes, journal)


def drop_with_journal(client: MilvusClient, name: str, folder: Path) -> None:
    """Drop a collection and its journal in ``folder``, unless a run is writing to it.

    The collection is also removed from the history of its alias.

    Raises:
        ConfigError: when another process has the journal open.
        StoreError: like `HashCollection.drop`.
    """
    is_alias = check_name(name) in all_aliases(client)
    metadata = metadata_of(client, name) if not is_alias and exists(client, name) else None
    if metadata is None:
        HashCollection.drop(client, name)  # which raises the error
        return
    uid = metadata.collection_uid
    with Journal.open_if_exists(folder, uid):
        alias_history.forget(client, name)
        HashCollection.drop(client, name)
    for file in (
        journal_file(folder, uid),
        record_file(folder, uid),
    ):  # closed: SQLite leaves no other file
        file.unlink(missing_ok=True)


def read_ids(path: Path) -> list[str]:
    """The ids in a text file, one per line; blank lines are skipped.

    Raises:
        ConfigError: when the file cannot be read, is not UTF-8, or has no id.
    """
    lines = read_text(path, "the ids in", max_bytes=MAX_LIST_BYTES).split("\n")
    ids = [line.rstrip("\r") for line in lines if line.strip()]
    if not ids:
        raise ConfigError(f"there is no id in {path}; expected one id per line")
    return ids
