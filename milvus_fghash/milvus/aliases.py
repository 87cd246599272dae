"""Aliases: a second name of a collection, which moves from one to another in a single step.

A server has them itself. Milvus Lite has none, so there a table in the same file says what an alias stands for.
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
    """The collection that an alias stands for; any other name is given back.

    Raises:
        StoreError: when Milvus does not answer.
    """
    if not probe(client).aliases:
        return lite_aliases.read(client).get(name, name)
    return _of_server(client, name) or name


def exists(client: MilvusClient, name: str) -> bool:
    """Whether a collection or an alias is called so.

    Raises:
        StoreError: when Milvus does not answer.
    """
    name = resolve(client, name)
    with milvus_call(f"cannot look for the collection {name}"):
        return bool(client.has_collection(name, timeout=TIMEOUT))


def all_aliases(client: MilvusClient) -> dict[str, str]:
    """Alias -> collection, by name. An alias whose collection was dropped is left out.

    Raises:
        StoreError: when Milvus does not answer.
    """
    if not probe(client).aliases:
        return lite_aliases.read(client)
    with milvus_call("cannot list the aliases"):
        listed: Any = client.list_aliases(timeout=TIMEOUT)  # a dict, whatever pymilvus declares
    names = sorted(listed["aliases"])
    return {name: collection for name in names if (collection := _of_server(client, name))}


def point(client: MilvusClient, alias: str, collection: str) -> None:
    """Make an alias, or move it; whoever uses it meets the one collection or the other, never none.

    Raises:
        StoreError: when a collection has that name, or Milvus rejects.
    """
    check_free(client, alias)
    if not probe(client).aliases:
        lite_aliases.write(client, {**lite_aliases.read(client), alias: collection})
        return
    with milvus_call(f"cannot make {alias} an alias of {collection}"):
        if _of_server(client, alias):
            client.alter_alias(collection, alias, timeout=TIMEOUT)
        else:
            client.create_alias(collection, alias, timeout=TIMEOUT)


def remove(client: MilvusClient, alias: str) -> None:
    """Take an alias away; its collection stays.

    Raises:
        StoreError: when Milvus rejects.
    """
    if probe(client).aliases:
        with milvus_call(f"cannot remove the alias {alias}"):
            client.drop_alias(alias, timeout=TIMEOUT)
    else:
        lite_aliases.write(client, {key: name for key, name in lite_aliases.read(client).items() if key != alias})


def check_free(client: MilvusClient, alias: str) -> None:
    """Reject the name of a collection for an alias.

    Raises:
        StoreError: says what to do.
    """
    if resolve(client, alias) == alias and exists(client, alias):
        raise StoreError(
            f"a collection is called {alias}, so no alias can be; give the alias another name, and search by that from "
            "now on"
        )


def check_unused(client: MilvusClient, collection: str) -> None:
    """Reject an alias, and a collection that has one: searches by the alias would fail.

    Raises:
        StoreError: says which.
    """
    aliases = all_aliases(client)
    if collection in aliases:
        raise StoreError(f"{collection} is an alias of {aliases[collection]}; name the collection itself")
    if users := [alias for alias, name in aliases.items() if name == collection]:
        raise StoreError(
            f"the collection {collection} is what the alias {users[0]} stands for; promote another one first"
        )


def _of_server(client: MilvusClient, alias: str) -> str | None:
    """What the server says an alias stands for: newer ones call a collection as they were asked for it."""
    with milvus_call(f"cannot look for the alias {alias}"):
        try:
            return str(client.describe_alias(alias, timeout=TIMEOUT)["collection_name"])
        except MilvusException as error:
            if error.code != ALIAS_NOT_FOUND and "alias not found" not in str(error.message):
                raise
    return None
