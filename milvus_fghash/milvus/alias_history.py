"""The versions of an alias: the collection it stands for, and those it stood for before.

Aliases in Milvus are all there is to know, so every client of it sees the same: `birds` is what is searched,
`birds_previous_1` what was searched before that, `birds_previous_2` what before that, and so on.
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
    """What an alias stands for (None: there is no such alias), and what it stood for before, the newest first."""

    alias: str
    current: str | None
    previous: tuple[str, ...]

    @classmethod
    def of(cls, client: MilvusClient, alias: str) -> AliasHistory:
        """Ask Milvus.

        Raises:
            StoreError: when it does not answer.
        """
        known = aliases.all_aliases(client)
        current = known.get(alias)
        before = [known[name] for _, name in sorted(_numbered(known, alias).items())]
        # Whoever was killed while they moved left one twice.
        return cls(alias, current, tuple(name for name in dict.fromkeys(before) if name != current))


def advance(client: MilvusClient, alias: str, collection: str, before: str | None = None) -> AliasHistory:
    """Make a collection the current version; the one before stays as the newest of the previous ones.

    Args:
        before: what is replaced where there is no such alias yet.

    Raises:
        StoreError: when a collection is called like the alias, or Milvus rejects.
    """
    now = AliasHistory.of(client, alias)
    previous = [name for name in (now.current or before, *now.previous) if name and name != collection]
    _write_previous(client, alias, previous)  # first: nothing is lost, whenever this is stopped
    aliases.point(client, alias, collection)
    return AliasHistory.of(client, alias)


def roll_back(client: MilvusClient, now: AliasHistory) -> AliasHistory:
    """Make the newest of the previous versions the current one again; the one that was stays as a collection only.

    Raises:
        StoreError: when Milvus rejects.
    """
    aliases.point(client, now.alias, now.previous[0])
    _write_previous(client, now.alias, list(now.previous[1:]))
    return AliasHistory.of(client, now.alias)


def forget(client: MilvusClient, collection: str) -> None:
    """Take a collection out of the previous versions of every alias.

    Raises:
        StoreError: when Milvus rejects.
    """
    known = aliases.all_aliases(client)
    names = [PREVIOUS.fullmatch(alias) for alias, name in known.items() if name == collection]
    for alias in {found[1] for found in names if found}:
        _write_previous(client, alias, [name for name in AliasHistory.of(client, alias).previous if name != collection])


def _write_previous(client: MilvusClient, alias: str, collections: list[str]) -> None:
    """In an order in which each has an alias at any time: the oldest first where they get older, else the newest."""
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
    """Number -> alias, of the previous versions among known aliases."""
    found = {name: PREVIOUS.fullmatch(name) for name in known}
    return {int(match[2]): name for name, match in found.items() if match and match[1] == alias}


def previous_name(alias: str, number: int) -> str:
    """The alias of a previous version, 1 being the newest.

    >>> previous_name("birds", 1)
    'birds_previous_1'

    Raises:
        ConfigError: when that is no name.
    """
    return check_name(f"{alias}_previous_{number}")
