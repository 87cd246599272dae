"""The collection that shards are imported into: made for them, or one of the same columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from milvus_fghash.bulk.folder import ShardsManifest
from milvus_fghash.data.columns import Column
from milvus_fghash.errors import ConfigError
from milvus_fghash.serving.aliases import exists
from milvus_fghash.serving.collection import HashCollection
from milvus_fghash.serving.driver import MilvusClient
from milvus_fghash.serving.scalar_columns import PHASH
from milvus_fghash.serving.schema import check_name


def collection_for(manifest: ShardsManifest, client: MilvusClient, name: str, **options: Any) -> HashCollection:
    """Open the collection, or create it for the shards with the options (index, nlist, consistency) if there is none.

    ``tell`` among them is called with a line when an index was built again.

    Raises:
        ConfigError: when the collection has other columns or another partition key than the shards.
        StoreError: as `HashCollection.open` and `HashCollection.create`.
    """
    if exists(client, check_name(name)):
        made = HashCollection.open(client, name, manifest.model)
    else:
        made = HashCollection.create(
            client,
            name,
            manifest.model,
            code_hex=manifest.code_hex,
            embedding_dim=manifest.embedding_dim,
            columns=manifest.collection_columns,
            partition_key=manifest.partition_key,
            phash=manifest.phash,
            **options,
        )
    there = _facts(made.columns, made.has_code_hex, made.embedding_dim, made.has_phash, made.partition_key)
    wanted = _facts(
        manifest.collection_columns, manifest.code_hex, manifest.embedding_dim, manifest.phash, manifest.partition_key
    )
    if unlike := [f"{what} {there[what]}, not {wanted[what]}" for what in wanted if there[what] != wanted[what]]:
        raise ConfigError(
            f"the collection {made.name} was not made for these shards: it has {' and '.join(unlike)}; import them "
            "into another one (--collection-name)"
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
