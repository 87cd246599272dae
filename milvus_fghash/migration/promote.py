"""Which collection an alias stands for is changed here, and only when the new one has what the old one has."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from milvus_fghash.core.callbacks import Notify
from milvus_fghash.errors import ConfigError, Inconsistent, StoreError
from milvus_fghash.ingest.delete import drop_with_journal
from milvus_fghash.migration.model_comparison import MissingRows, look
from milvus_fghash.migration.reindex import DIGITS
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
AGAIN: Final = "run reindex again: what is in already is not encoded twice"


@dataclass(frozen=True)
class AliasChange:
    """An alias after it was moved.

    Attributes:
        collection: what it stands for now.
        before: what it stood for; None when it is new and replaces nothing.
        rows: of ``collection``.
        rows_before: of ``before``.
        previous: versions that `rollback` goes back to, the newest first.
        missing: rows of ``before`` that ``collection`` does not have; None where nobody looked.
    """

    alias: str
    collection: str
    before: str | None
    rows: int
    rows_before: int | None
    previous: tuple[str, ...]
    missing: MissingRows | None = None


def candidate(client: MilvusClient, alias: str) -> str:
    """The one collection that `reindex` made for an alias and that it does not stand for yet.

    Raises:
        ConfigError: when there is none, or more than one.
    """
    now = AliasHistory.of(client, alias)
    known = {now.current, *now.previous}
    with milvus_call("cannot list the collections"):
        names: list[str] = sorted(client.list_collections(timeout=TIMEOUT))
    found = [name for name in names if re.fullmatch(rf"{alias}_[0-9a-f]{{{DIGITS}}}", name) and name not in known]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(f"no collection waits to become {alias}; reindex makes one, or name another one")
    raise ConfigError(f"{len(found)} collections could become {alias}: {', '.join(found)}; say which")


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
    """Let an alias stand for a collection. Searches by the alias meet the one before or this one, never none.

    No run of this machine writes to either meanwhile: their journals are held.

    Args:
        max_missing: rows of the version before that may be missing; more, and nothing is changed.
        unverified: take a collection that no finished `reindex` of this machine found whole.
        notify: called with a line that a person should read.

    Raises:
        ConfigError: when the alias cannot be, or a run is writing.
        Inconsistent: when the collection is not verified, empty, or lacks rows.
        StoreError: when there is no such collection, or Milvus rejects.
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
                f"the collection {new.name} is not known to be whole; {AGAIN}, or take it unverified",
                setting="unverified",
            )
        rows_before, missing = before.count(), look(before, new).missing
        if missing.count > max_missing:
            raise Inconsistent(_said_of_missing(new.name, before.name, missing, max_missing), setting="max_missing")
        after = versions.advance(client, alias, new.name, before.name)
        _notify_of_changes(before, missing, rows_before, notify)
    return AliasChange(alias, new.name, before.name, rows, rows_before, after.previous, missing)


def rollback(client: MilvusClient, alias: str) -> AliasChange:
    """Let an alias stand for the version before again. The one that it stood for stays as a collection.

    Raises:
        StoreError: when there is no such alias, no version before, or Milvus rejects.
        Inconsistent: when the version before is empty.
    """
    now = AliasHistory.of(client, alias)
    if now.current is None:
        raise StoreError(f"there is no alias {alias}; promote makes one")
    if not now.previous:
        raise StoreError(f"{alias} is not known to have stood for another collection than {now.current}")
    older = HashCollection.open(client, now.previous[0])  # loads it: searches must not wait for that
    if not (rows := older.count()):
        raise Inconsistent(f"the collection {older.name}, which {alias} stood for before, is empty")
    rows_before = count_rows(client, now.current)
    after = versions.roll_back(client, now)
    return AliasChange(alias, older.name, now.current, rows, rows_before, after.previous)


def drop_older(client: MilvusClient, alias: str, keep: int, folder_of: FolderOf, yes: bool) -> list[str]:
    """Drop the previous versions of an alias but the newest ``keep``; without ``yes``, only name them.

    Raises:
        ConfigError: when a run is writing to one.
        StoreError: when another alias stands for one, or Milvus rejects.
    """
    older = list(AliasHistory.of(client, alias).previous[keep:])
    for name in older if yes else []:
        drop_with_journal(client, name, folder_of(name))
    return older


def _replaced(client: MilvusClient, now: AliasHistory, record: ReindexRecord | None) -> HashCollection | None:
    """What the alias stands for; of a new alias, the collection beside which the new one was filled."""
    name = now.current or (record.old if record and aliases.exists(client, record.old) else None)
    return HashCollection.open(client, name) if name else None


def _said_of_missing(new: str, before: str, missing: MissingRows, allowed: int) -> str:
    places = ", ".join(f"{count:,} of namespace {name or '(none)'}" for name, count in missing.namespaces.items())
    return (
        f"{missing.count:,} rows of {before} are not in {new} ({places}; such as {missing.examples[0]}), "
        f"{allowed:,} are allowed; reindex their photos too, or allow more"
    )


def _notify_of_changes(before: HashCollection, missing: MissingRows, rows: int, notify: Notify) -> None:
    if missing.unlike:
        notify(
            f"{missing.unlike:,} rows are of another content than in {before.name}: where photos changed since they "
            "were read, ingest takes them in again"
        )
    if (now := before.count()) != rows:
        notify(
            f"something wrote to {before.name} meanwhile: {rows:,} rows before, {now:,} now; ingest those photos again"
        )
