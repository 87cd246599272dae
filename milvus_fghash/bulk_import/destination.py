"""The collection that shards are imported into."""

from __future__ import annotations

from collections.abc import Iterable

from milvus_fghash.bulk_import.shards.folder import ShardsManifest
from milvus_fghash.core.callbacks import Notify
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.errors import ConfigError
from milvus_fghash.milvus.aliases import exists
from milvus_fghash.milvus.collection import DEFAULT_NLIST, Consistency, HashCollection
from milvus_fghash.milvus.indexes import build_missing
from milvus_fghash.milvus.pymilvus_compat import MilvusClient
from milvus_fghash.milvus.scalar_fields import PHASH
from milvus_fghash.milvus.schema import IndexType, check_name
from milvus_fghash.milvus.settings import CollectionSettings, open_or_create


def collection_for(
    manifest: ShardsManifest,
    client: MilvusClient,
    name: str,
    *,
    index: IndexType | None = None,
    nlist: int = DEFAULT_NLIST,
    consistency: Consistency = "Bounded",
    notify: Notify = lambda line: None,
) -> HashCollection:
    """Open the collection, or create it for the shards. A dropped index is built again.

    Args:
        index: None: that of an existing collection, BIN_FLAT for a new one.
        nlist, consistency: of a new collection, as in `HashCollection.create`.
        notify: called with a line when an index was built again.

    Raises:
        ConfigError: when the collection has other columns, another partition key or another index.
        StoreError: like `HashCollection.open` and `HashCollection.create`.
    """
    if exists(client, check_name(name)):
        build_missing(client, name, manifest.model, index=index or "BIN_FLAT", nlist=nlist, notify=notify)
        made = HashCollection.open(client, name, manifest.model)
    else:
        made = open_or_create(
            client,
            name,
            manifest.model,
            CollectionSettings(
                index=index,
                nlist=nlist,
                code_hex=manifest.code_hex,
                partition_key=manifest.partition_key,
                phash=manifest.phash,
                consistency=consistency,
            ),
            columns=manifest.collection_columns,
            embedding_dim=manifest.embedding_dim,
            notify=notify,
        )
    present = _facts(made.columns, made.has_code_hex, made.embedding_dim, made.has_phash, made.partition_key) | {
        "the index": made.index
    }
    needed = _facts(
        manifest.collection_columns, manifest.code_hex, manifest.embedding_dim, manifest.phash, manifest.partition_key
    ) | {"the index": index or made.index}
    differences = [f"{what} {present[what]}, not {needed[what]}" for what in needed if present[what] != needed[what]]
    if differences:
        raise ConfigError(
            f"the collection {made.name} was not made for these shards: it has {' and '.join(differences)}; import "
            "them into another collection",
            setting="collection_name",
        )
    return made


def _facts(
    columns: Iterable[Column], code_hex: bool, embedding_dim: int | None, phash: bool, partition_key: str | None
) -> dict[str, str]:
    names = [*map(str, columns), *(["code_hex"] if code_hex else [])]
    names += [f"embedding:{embedding_dim}"] if embedding_dim else []
    return {
        "the columns": ", ".join(sorted(names)) or "(none)",
        "the column of perceptual hashes": PHASH if phash else "(none)",
        "the partition key": partition_key or "(none)",
    }
