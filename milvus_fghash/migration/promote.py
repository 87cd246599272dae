"""Move an alias to a new collection, once that has all rows of the old one, and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from milvus_fghash.core.callbacks import Notify
from milvus_fghash.errors import ConfigError, Inconsistent, StoreError
from milvus_fghash.ingest.delete import drop_with_journal
from milvus_fghash.migration.model_comparison import MissingRows, compare_rows
from milvus_fghash.migration.reindex import FINGERPRINT_DIGITS
from milvus_fghash.milvus import alias_history as versions
from milvus_fghash.milvus import aliases
from milvus_fghash.milvus.alias_history import AliasHistory
from milvus_fghash.milvus.collection import HashCollection, count_rows
from milvus_fghash.milvus.errors import TIMEOUT, milvus_call
from milvus_fghash.milvus.pymilvus_compat import MilvusClient
from milvus_fghash.milvus.schema import check_name
from milvus_fghash.state.journal import Journal
from milvus_fghash.state.migration_record import ReindexRecord

FolderOf = Callable[[str], Path]
"""Name of a collection -> folder of its journal."""


@dataclass(frozen=True)
class AliasChange:
    """Result of `Catalog.promote` and `Catalog.rollback`.

    Attributes:
        alias: the alias.
        collection: the collection it points to now.
        before: the collection it pointed to before; None if the alias is new and replaces no collection.
        rows: number of rows of ``collection``.
        rows_before: number of rows of ``before``.
        previous: earlier collections of the alias, the newest first; `rollback` returns to the first one.
        missing: rows of ``before`` that ``collection`` lacks; None if they were not compared.

    Examples:
        >>> AliasChange("birds", "birds_2", "birds_1", 100, 100, ("birds_1",)).collection
        'birds_2'
    """

    alias: str
    collection: str
    before: str | None
    rows: int
    rows_before: int | None
    previous: tuple[str, ...]
    missing: MissingRows | None = None


def candidate(client: MilvusClient, alias: str) -> str:
    """The one collection that `reindex` created for an alias and that was never promoted.

    Raises:
        ConfigError: when there is none, or more than one.
    """
    now = AliasHistory.of(client, alias)
    known = {now.current, *now.previous}
    with milvus_call("cannot list the collections"):
        names: list[str] = sorted(client.list_collections(timeout=TIMEOUT))
    found = [
        name for name in names if re.fullmatch(rf"{alias}_[0-9a-f]{{{FINGERPRINT_DIGITS}}}", name) and name not in known
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(f"reindex created no collection for {alias} yet; run reindex, or name a collection")
    raise ConfigError(f"reindex created {len(found)} collections for {alias}: {', '.join(found)}; name one of them")


def promote(
    client: MilvusClient,
    alias: str,
    name: str,
    folder_of: FolderOf,
    *,
    max_missing: int = 0,
    unverified: bool = False,
    notify: Notify = lambda line: None,
) -> AliasChange:
    """Point an alias to a collection. Searches by the alias use the previous collection or this one at any moment.

    The journals of both are locked, so that no run on this machine writes to them.

    Args:
        max_missing: number of rows of the previous collection that may be missing; with more, nothing is changed.
        unverified: accept a collection that no finished `reindex` on this machine found consistent.
        notify: called with messages for the user.

    Raises:
        ConfigError: when the alias has no valid name, or a run is writing.
        Inconsistent: when the collection is not verified, is empty, or lacks rows.
        StoreError: when there is no such collection, or Milvus rejects a call.
    """
    aliases.check_free(client, check_name(alias))
    new = HashCollection.open(client, name)
    record = ReindexRecord.read(folder_of(new.name), new.uid)
    now = AliasHistory.of(client, alias)
    if now.current == new.name:
        return AliasChange(alias, new.name, None, new.count(), None, now.previous)
    before = _replaced(client, now, record)
    with ExitStack() as held:
        for one in (new, before):
            if one is not None:
                held.enter_context(Journal.open_if_exists(folder_of(one.name), one.uid))
        if not (rows := new.count()):
            raise Inconsistent(f"the collection {new.name} is empty; fill it first")
        if before is None:
            after = versions.advance(client, alias, new.name)
            return AliasChange(alias, new.name, None, rows, None, after.previous)
        if not (unverified or new.name in now.previous or (record and record.is_consistent)):
            raise Inconsistent(
                f"the collection {new.name} was not verified; run reindex again (rows that are written are not encoded "
                "again), or promote it unverified",
                setting="unverified",
            )
        rows_before, missing = before.count(), compare_rows(before, new).missing
        if missing.count > max_missing:
            raise Inconsistent(_missing_message(new.name, before.name, missing, max_missing), setting="max_missing")
        after = versions.advance(client, alias, new.name, before.name)
        _notify_of_changes(before, missing, rows_before, notify)
    return AliasChange(alias, new.name, before.name, rows, rows_before, after.previous, missing)


def rollback(client: MilvusClient, alias: str) -> AliasChange:
    """Point an alias to its previous collection again. The collection it pointed to is kept.

    Raises:
        StoreError: when there is no such alias or no previous collection, or Milvus rejects a call.
        Inconsistent: when the previous collection is empty.
    """
    now = AliasHistory.of(client, alias)
    if now.current is None:
        raise StoreError(f"there is no alias {alias}; promote creates one")
    if not now.previous:
        raise StoreError(
            f"the alias {alias} has no previous collection; it points to {now.current} since it was created"
        )
    older = HashCollection.open(client, now.previous[0])  # loads it, so that searches do not wait
    if not (rows := older.count()):
        raise Inconsistent(f"the previous collection of {alias}, {older.name}, is empty; the alias was not moved")
    rows_before = count_rows(client, now.current)
    after = versions.roll_back(client, now)
    return AliasChange(alias, older.name, now.current, rows, rows_before, after.previous)


def drop_older(client: MilvusClient, alias: str, keep: int, folder_of: FolderOf, yes: bool) -> list[str]:
    """Drop the previous collections of an alias except the newest ``keep``; without ``yes``, only return their names.

    Raises:
        ConfigError: when a run is writing to one.
        StoreError: when another alias points to one, or Milvus rejects a call.
    """
    older = list(AliasHistory.of(client, alias).previous[keep:])
    for name in older if yes else []:
        drop_with_journal(client, name, folder_of(name))
    return older


def _replaced(client: MilvusClient, now: AliasHistory, record: ReindexRecord | None) -> HashCollection | None:
    """The collection the alias points to; for a new alias, the old collection of the reindex."""
    name = now.current or (record.old if record and aliases.exists(client, record.old) else None)
    return HashCollection.open(client, name) if name else None


def _missing_message(new: str, before: str, missing: MissingRows, allowed: int) -> str:
    counts = ", ".join(f"{count:,} of namespace {name or '(none)'}" for name, count in missing.namespaces.items())
    return (
        f"{missing.count:,} rows of {before} are not in {new} ({counts}; such as {missing.examples[0]}), "
        f"{allowed:,} are allowed; reindex their photos too, or allow more"
    )


def _notify_of_changes(before: HashCollection, missing: MissingRows, rows: int, notify: Notify) -> None:
    if missing.changed:
        notify(
            f"the contents of {missing.changed:,} rows differ from those in {before.name}; if the photos have changed "
            "since, ingest updates the rows"
        )
    if (now := before.count()) != rows:
        notify(
            f"another client wrote to {before.name} in the meantime ({rows:,} rows before, {now:,} now); ingest those "
            "photos again"
        )
