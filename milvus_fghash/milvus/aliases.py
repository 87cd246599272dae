"""Aliases: further names of a collection, which can be moved to another collection in a single step.

Servers support aliases. Milvus Lite does not; `lite_aliases` adds them.
"""

from __future__ import annotations

from typing import Any, Final

from milvus_fghash.errors import StoreError
from milvus_fghash.milvus import lite_aliases
from milvus_fghash.milvus.connection import probe
from milvus_fghash.milvus.errors import TIMEOUT, milvus_call
from milvus_fghash.milvus.pymilvus_compat import MilvusClient, MilvusException

ALIAS_NOT_FOUND: Final = 1600


def resolve(client: MilvusClient, name: str) -> str:
    """The collection that an alias refers to; any other name is returned unchanged.

    Raises:
        StoreError: if Milvus fails.
    """
    if not probe(client).aliases:
        return lite_aliases.read(client).get(name, name)
    return _of_server(client, name) or name


def exists(client: MilvusClient, name: str) -> bool:
    """Whether there is a collection or alias of this name.

    Raises:
        StoreError: if Milvus fails.
    """
    name = resolve(client, name)
    with milvus_call(f"cannot check whether the collection {name} exists"):
        return bool(client.has_collection(name, timeout=TIMEOUT))


def all_aliases(client: MilvusClient) -> dict[str, str]:
    """Alias -> collection, sorted by alias. An alias whose collection was dropped is left out.

    Raises:
        StoreError: if Milvus fails.
    """
    if not probe(client).aliases:
        return lite_aliases.read(client)
    with milvus_call("cannot list the aliases"):
        listed: Any = client.list_aliases(timeout=TIMEOUT)  # a dict, whatever pymilvus declares
    names = sorted(listed["aliases"])
    return {name: collection for name in names if (collection := _of_server(client, name))}


def point(client: MilvusClient, alias: str, collection: str) -> None:
    """Create an alias, or move it. At any time it refers to the old or to the new collection.

    Raises:
        StoreError: if a collection has this name, or Milvus fails.
    """
    check_free(client, alias)
    if not probe(client).aliases:
        lite_aliases.write(client, {**lite_aliases.read(client), alias: collection})
        return
    with milvus_call(f"cannot point the alias {alias} to {collection}"):
        if _of_server(client, alias):
            client.alter_alias(collection, alias, timeout=TIMEOUT)
        else:
            client.create_alias(collection, alias, timeout=TIMEOUT)


def remove(client: MilvusClient, alias: str) -> None:
    """Remove an alias. Its collection is not changed.

    Raises:
        StoreError: if Milvus fails.
    """
    if probe(client).aliases:
        with milvus_call(f"cannot remove the alias {alias}"):
            client.drop_alias(alias, timeout=TIMEOUT)
    else:
        lite_aliases.write(client, {key: name for key, name in lite_aliases.read(client).items() if key != alias})


def check_free(client: MilvusClient, alias: str) -> None:
    """Reject an alias that has the name of a collection.

    Raises:
        StoreError: if a collection has this name.
    """
    if resolve(client, alias) == alias and exists(client, alias):
        raise StoreError(
            f"there is a collection named {alias}, so an alias cannot have this name; choose another alias, and "
            "search by it from now on"
        )


def check_unused(client: MilvusClient, collection: str) -> None:
    """Reject an alias, and a collection with an alias: searches by the alias would fail.

    Raises:
        StoreError: names the alias.
    """
    aliases = all_aliases(client)
    if collection in aliases:
        raise StoreError(f"{collection} is an alias of {aliases[collection]}; give the name of the collection itself")
    if users := [alias for alias, name in aliases.items() if name == collection]:
        raise StoreError(
            f"the alias {users[0]} refers to the collection {collection}; promote another collection first"
        )


def _of_server(client: MilvusClient, alias: str) -> str | None:
    """The collection of an alias; None if there is no such alias. (`describe_collection` of new servers echoes it.)"""
    with milvus_call(f"cannot describe the alias {alias}"):
        try:
            return str(client.describe_alias(alias, timeout=TIMEOUT)["collection_name"])
        except MilvusException as error:
            if error.code != ALIAS_NOT_FOUND and "alias not found" not in str(error.message):
                raise
    return None
