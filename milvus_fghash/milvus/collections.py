"""List the collections of this project in a Milvus."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from milvus_fghash.errors import StoreError
from milvus_fghash.milvus.aliases import all_aliases
from milvus_fghash.milvus.collection import count_rows
from milvus_fghash.milvus.errors import TIMEOUT, milvus_call
from milvus_fghash.milvus.indexes import indexes_of
from milvus_fghash.milvus.pymilvus_compat import MilvusClient
from milvus_fghash.milvus.schema import read_metadata


class CollectionInfo(BaseModel):
    """A collection as described by `list_collections`; a value is None if it is not known."""

    name: str
    method: str | None = None
    bits: int | None = None
    rows: int | None = None
    """None also if the server would have to load the collection first."""
    index: str | None = None
    consistency: str | None = None
    lineage: str | None = None
    fingerprint: str | None = None
    aliases: list[str] = []
    problem: str | None = None
    """Why the collection cannot be described or searched, for example because a newer version made it."""


def list_collections(client: MilvusClient) -> list[CollectionInfo]:
    """The collections that milvus-fghash created, by name.

    A collection that cannot be described is listed with its `problem`.

    Raises:
        StoreError: if Milvus cannot list the names.
    """
    with milvus_call("cannot list the collections"):
        names: list[str] = sorted(client.list_collections(timeout=TIMEOUT))
    known = all_aliases(client)
    aliases = {name: [alias for alias, collection in known.items() if collection == name] for name in names}
    return [info for name in names if (info := _info(client, name, aliases[name]))]


def _info(client: MilvusClient, name: str, aliases: list[str]) -> CollectionInfo | None:
    try:
        with milvus_call("cannot be described"):
            described: dict[str, Any] = client.describe_collection(name, timeout=TIMEOUT)
            metadata = read_metadata(name, described["description"])
            if metadata is None:
                return None
            indexes = indexes_of(client, name, described["fields"])
            return CollectionInfo(
                name=name,
                rows=_count_if_loaded(client, name),
                index=indexes["code"].get("index_type"),
                consistency=described["consistency_level_name"],
                aliases=aliases,
                problem=None if all(indexes.values()) else "an index was dropped, or not built yet; ingest builds it",
                **metadata.model_dump(include={"method", "bits", "lineage", "fingerprint"}),
            )
    except StoreError as error:
        return CollectionInfo(name=name, aliases=aliases, problem=str(error))


def _count_if_loaded(client: MilvusClient, name: str) -> int | None:
    try:
        return count_rows(client, name)
    except StoreError as error:
        if "not loaded" in str(error):
            return None
        raise
