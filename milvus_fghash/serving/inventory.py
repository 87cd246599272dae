"""Which collections of this project a Milvus holds."""

from __future__ import annotations

from pydantic import BaseModel
from pymilvus import MilvusClient

from milvus_fghash.errors import StoreError
from milvus_fghash.serving.collection import TIMEOUT, count_rows
from milvus_fghash.serving.milvus_calls import milvus_call
from milvus_fghash.serving.schema import read_note


class CollectionInfo(BaseModel):
    """One line of `list_collections`."""

    name: str
    method: str
    bits: int
    rows: int | None
    """None where the server would have to load the collection first."""
    index: str | None
    consistency: str
    lineage: str
    fingerprint: str


def list_collections(client: MilvusClient) -> list[CollectionInfo]:
    """The collections this project made, by name; others are left out.

    Raises:
        StoreError: when Milvus cannot be asked.
    """
    listed = []
    with milvus_call("cannot list the collections"):
        for name in sorted(client.list_collections(timeout=TIMEOUT)):
            described = client.describe_collection(name, timeout=TIMEOUT)
            note = read_note(name, described["description"])
            if note is None:
                continue
            index = client.describe_index(name, "code", timeout=TIMEOUT) or {}
            listed.append(
                CollectionInfo(
                    name=name,
                    rows=_count_if_loaded(client, name),
                    index=index.get("index_type"),
                    consistency=described["consistency_level_name"],
                    **note.model_dump(include={"method", "bits", "lineage", "fingerprint"}),
                )
            )
    return listed


def _count_if_loaded(client: MilvusClient, name: str) -> int | None:
    try:
        return count_rows(client, name)
    except StoreError as error:
        if "not loaded" in str(error):
            return None
        raise
