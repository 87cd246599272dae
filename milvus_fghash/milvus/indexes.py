"""The indexes that a collection lost, or did not get yet: named, and built again beside its rows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from milvus_fghash.core.callbacks import Notify
from milvus_fghash.errors import StoreError
from milvus_fghash.milvus.aliases import resolve
from milvus_fghash.milvus.connection import probe
from milvus_fghash.milvus.errors import LOAD_TIMEOUT, TIMEOUT, milvus_call
from milvus_fghash.milvus.pymilvus_compat import MilvusClient
from milvus_fghash.milvus.schema import (
    METRIC,
    VECTORS,
    IndexType,
    ModelIdentity,
    check_index,
    index_params,
    read_metadata,
)

INDEX_GRACE_SECONDS: Final = 5.0
"""Seconds in which another run, which has just made the collection, makes its index."""


def indexes_of(client: MilvusClient, name: str, fields: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Vector field -> its index as Milvus describes it; empty where it has none.

    Raises:
        StoreError: when Milvus rejects.
    """
    with milvus_call(f"cannot look for the index of {name}"):
        return {
            field["name"]: client.describe_index(name, field["name"], timeout=TIMEOUT) or {}
            for field in fields
            if field["name"] in VECTORS
        }


def check_indexes(name: str, indexes: Mapping[str, Mapping[str, Any]]) -> None:
    """Reject a collection that cannot be searched as it is.

    Raises:
        StoreError: when an index is not there, or measures otherwise.
    """
    if lacking := [field for field, index in indexes.items() if not index]:
        raise StoreError(
            f"the collection {name} has no index of {' and '.join(lacking)}: it was dropped, or not built yet. The "
            "rows are all there; ingest builds the index again, and so does repairing by verify"
        )
    for field, index in indexes.items():
        if index["metric_type"] != METRIC[field]:
            measure = f"by {index['metric_type']}, not by {METRIC[field]}"
            raise StoreError(
                f"the index of {field} in the collection {name} measures {measure}: "
                "release the collection and drop that index in Milvus, and ingest builds the right one"
            )


def build_missing(
    client: MilvusClient,
    name: str,
    manifest: ModelIdentity,
    *,
    index: IndexType = "BIN_FLAT",
    nlist: int = 128,
    notify: Notify = lambda line: None,
) -> None:
    """Build the indexes that a collection of this model lacks; its rows stay as they are.

    Args:
        index, nlist: as `HashCollection.create`.
        notify: called with a line when one was built.

    Raises:
        ConfigError: when nlist cannot be.
        StoreError: when another model filled it, or Milvus rejects.
    """
    name = resolve(client, name)
    with milvus_call(f"cannot open the collection {name}"):
        described = client.describe_collection(name, timeout=TIMEOUT)
    metadata = read_metadata(name, described["description"])
    if metadata is None:
        return  # that it is not ours, is told where it is opened
    metadata.check(manifest, name)
    if not (lacking := _lacking(client, name, described["fields"])):
        return
    check_index(probe(client), index, nlist, None)
    with milvus_call(f"cannot build the index of {name}"):
        client.create_index(name, index_params(index, nlist, lacking), timeout=LOAD_TIMEOUT)
    notify(f"the collection {name} had no index of {' and '.join(lacking)}; it was built again, and all rows are there")


def _lacking(client: MilvusClient, name: str, fields: Iterable[Mapping[str, Any]]) -> list[str]:
    """Fields without an index, also after another run had the time to make it."""
    until = time.monotonic() + (INDEX_GRACE_SECONDS if probe(client).kind == "server" else 0)
    while lacking := [field for field, index in indexes_of(client, name, fields).items() if not index]:
        if time.monotonic() >= until:
            break
        time.sleep(0.2)
    return lacking
