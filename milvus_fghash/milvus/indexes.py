"""Indexes of a collection: describe them, check them, and build those that are missing."""

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
"""Time for another run, which has just created the collection, to create its index."""


def indexes_of(client: MilvusClient, name: str, fields: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Vector field -> its index as described by Milvus; empty without an index.

    Raises:
        StoreError: if Milvus fails.
    """
    with milvus_call(f"cannot describe the index of {name}"):
        return {
            field["name"]: client.describe_index(name, field["name"], timeout=TIMEOUT) or {}
            for field in fields
            if field["name"] in VECTORS
        }


def check_indexes(name: str, indexes: Mapping[str, Mapping[str, Any]]) -> None:
    """Reject a collection that cannot be searched.

    Raises:
        StoreError: if an index is missing, or has another metric.
    """
    if missing := [field for field, index in indexes.items() if not index]:
        raise StoreError(
            f"the collection {name} has no index of {' and '.join(missing)}: it was dropped, or not built yet. All "
            "rows are there; ingest builds the index again, and so does verify with repair"
        )
    for field, index in indexes.items():
        if index["metric_type"] != METRIC[field]:
            raise StoreError(
                f"the index of {field} in the collection {name} has the metric {index['metric_type']}, expected "
                f"{METRIC[field]}; release the collection, drop this index in Milvus, and ingest builds the right one"
            )


def build_missing(
    client: MilvusClient,
    name: str,
    manifest: ModelIdentity,
    *,
    index: IndexType = "BIN_FLAT",
    nlist: int = 128,
    notify: Notify = lambda message: None,
) -> None:
    """Build the missing indexes of a collection of this model. Its rows are not changed.

    Args:
        index, nlist: like for `HashCollection.create`.
        notify: called with a message when an index was built.

    Raises:
        ConfigError: if nlist is invalid.
        StoreError: if another model filled the collection, or Milvus fails.
    """
    name = resolve(client, name)
    with milvus_call(f"cannot open the collection {name}"):
        described = client.describe_collection(name, timeout=TIMEOUT)
    metadata = read_metadata(name, described["description"])
    if metadata is None:
        return  # not ours: opening the collection raises the error
    metadata.check(manifest, name)
    if not (missing := _missing(client, name, described["fields"])):
        return
    check_index(probe(client), index, nlist, None)
    with milvus_call(f"cannot build the index of {name}"):
        client.create_index(name, index_params(index, nlist, missing), timeout=LOAD_TIMEOUT)
    notify(f"the collection {name} had no index of {' and '.join(missing)}; it was built again; all rows are there")


def _missing(client: MilvusClient, name: str, fields: Iterable[Mapping[str, Any]]) -> list[str]:
    """Fields without an index, after another run had time to create it."""
    until = time.monotonic() + (INDEX_GRACE_SECONDS if probe(client).kind == "server" else 0)
    while missing := [field for field, index in indexes_of(client, name, fields).items() if not index]:
        if time.monotonic() >= until:
            break
        time.sleep(0.2)
    return missing
