"""The history of an alias: the collection that it refers to, and those that it referred to before.

The history is stored as aliases in Milvus, so that every client sees the same: `birds` refers to the current
collection, `birds_previous_1` to the one before, `birds_previous_2` to the one before that, and so on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from milvus_fghash.milvus import aliases
from milvus_fghash.milvus.pymilvus_compat import MilvusClient
from milvus_fghash.milvus.schema import check_name

PREVIOUS = re.compile(r"(.+)_previous_([1-9][0-9]*)")


@dataclass(frozen=True)
class AliasHistory:
    """The collection of an alias (None: there is no such alias), and the previous ones, newest first."""

    alias: str
    current: str | None
    previous: tuple[str, ...]

    @classmethod
    def of(cls, client: MilvusClient, alias: str) -> AliasHistory:
        """Read the history from Milvus.

        Raises:
            StoreError: if Milvus fails.
        """
        known = aliases.all_aliases(client)
        current = known.get(alias)
        before = [known[name] for _, name in sorted(_numbered(known, alias).items())]
        # After a crash during a change, a collection may occur twice.
        return cls(alias, current, tuple(name for name in dict.fromkeys(before) if name != current))


def advance(client: MilvusClient, alias: str, collection: str, before: str | None = None) -> AliasHistory:
    """Make a collection the current one; the one before becomes the newest previous one.

    Args:
        before: the previous collection if there is no such alias yet.

    Raises:
        StoreError: if a collection has the name of the alias, or Milvus fails.
    """
    now = AliasHistory.of(client, alias)
    previous = [name for name in (now.current or before, *now.previous) if name and name != collection]
    _write_previous(client, alias, previous)  # first, so that a crash loses nothing
    aliases.point(client, alias, collection)
    return AliasHistory.of(client, alias)


def roll_back(client: MilvusClient, now: AliasHistory) -> AliasHistory:
    """Make the newest previous collection the current one again; the current one loses the alias.

    Raises:
        StoreError: if Milvus fails.
    """
    aliases.point(client, now.alias, now.previous[0])
    _write_previous(client, now.alias, list(now.previous[1:]))
    return AliasHistory.of(client, now.alias)


def forget(client: MilvusClient, collection: str) -> None:
    """Remove a collection from the history of every alias.

    Raises:
        StoreError: if Milvus fails.
    """
    known = aliases.all_aliases(client)
    names = [PREVIOUS.fullmatch(alias) for alias, name in known.items() if name == collection]
    for alias in {found[1] for found in names if found}:
        _write_previous(client, alias, [name for name in AliasHistory.of(client, alias).previous if name != collection])


def _write_previous(client: MilvusClient, alias: str, collections: list[str]) -> None:
    """Each collection has an alias at any time: if they get older, the oldest moves first, otherwise the newest."""
    known = aliases.all_aliases(client)
    numbered = _numbered(known, alias)
    number_of = {known[numbered[number]]: number for number in sorted(numbered, reverse=True)}
    wanted = {previous_name(alias, number): name for number, name in enumerate(collections, start=1)}
    get_older = any(number_of.get(name, number) < number for number, name in enumerate(collections, start=1))
    for name in reversed(wanted) if get_older else wanted:
        if known.get(name) != wanted[name]:
            aliases.point(client, name, wanted[name])
    for name in numbered.values():
        if name not in wanted:
            aliases.remove(client, name)


def _numbered(known: dict[str, str], alias: str) -> dict[int, str]:
    """Number -> alias of the previous collections."""
    found = {name: PREVIOUS.fullmatch(name) for name in known}
    return {int(match[2]): name for name, match in found.items() if match and match[1] == alias}


def previous_name(alias: str, number: int) -> str:
    """The alias of a previous collection, 1 being the newest.

    >>> previous_name("birds", 1)
    'birds_previous_1'

    Raises:
        ConfigError: if the name is invalid.
    """
    return check_name(f"{alias}_previous_{number}")
