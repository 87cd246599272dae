"""Rows into Milvus, each in place of the one that had its id before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from milvus_fghash.serving.driver import MilvusClient
from milvus_fghash.serving.expressions import id_is_one_of


def replace_rows(
    client: MilvusClient, name: str, records: Sequence[dict[str, Any]], upserts: bool, timeout: float
) -> None:
    """Write rows as Milvus takes them, each id once; at most as many as one call may name ids.

    Args:
        upserts: whether rows that are upserted are found afterwards, see `Capabilities.keyed_upsert`. Else they are
            deleted and inserted: when that fails in between they are gone, and whoever repeats the call writes them.
    """
    if upserts:
        client.upsert(name, list(records), timeout=timeout)
        return
    client.delete(name, filter=id_is_one_of([one["id"] for one in records]), timeout=timeout)
    # pymilvus repeats a call whose answer was lost, and the rows would be there twice. Only without a time limit it can
    # be told not to; a connection that is gone is noticed all the same.
    client.insert(name, list(records), retry_times=0)
