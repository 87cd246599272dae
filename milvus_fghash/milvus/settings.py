"""Settings of a new collection, which an existing one must match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from milvus_fghash.core.callbacks import Notify
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.errors import ConfigError, StoreError, check_not_string
from milvus_fghash.milvus.aliases import exists
from milvus_fghash.milvus.collection import DEFAULT_NLIST, Consistency, HashCollection
from milvus_fghash.milvus.indexes import build_missing
from milvus_fghash.milvus.pymilvus_compat import MilvusClient
from milvus_fghash.milvus.schema import IndexType, ModelIdentity, check_name


@dataclass(frozen=True)
class CollectionSettings:
    """Settings of a new collection. An existing collection cannot be changed: one that differs is rejected.

    Attributes:
        index: ``"BIN_FLAT"`` compares a query with every row; ``"BIN_IVF_FLAT"`` (servers only) with the rows of the
            nearest clusters. None: BIN_FLAT, or the index of the existing collection.
        nlist: number of clusters of BIN_IVF_FLAT. None: 128. An existing collection keeps its own.
        code_hex: store the code as hexadecimal text, too, which is cheaper to read than the vector.
        embedding: store the embedding that the bundle computes, too.
        columns: typed columns of the dataset, as ``NAME`` or ``NAME:TYPE`` (text, int64, double, bool). An existing
            collection may have more.
        partition_key: the column of ``columns`` by whose values a server partitions the rows.
        phash: store the perceptual hash of each photo (8 bytes), by which duplicates are found. None: yes, or as
            the existing collection does.
        consistency: consistency level of reads that do not specify one. None: Bounded. An existing collection keeps its
            own.

    Raises:
        ConfigError: if ``columns`` is a single string.

    Examples:
        >>> CollectionSettings(columns=["price:double", "brand"], partition_key="brand").index is None
        True
    """

    index: IndexType | None = None
    nlist: int | None = None
    code_hex: bool = False
    embedding: bool = False
    columns: Sequence[str] = ()
    partition_key: str | None = None
    phash: bool | None = None
    consistency: Consistency | None = None

    def __post_init__(self) -> None:
        check_not_string(self.columns, "columns")


DEFAULT_SETTINGS: Final = CollectionSettings()


def open_or_create(
    client: MilvusClient,
    name: str,
    manifest: ModelIdentity,
    settings: CollectionSettings = DEFAULT_SETTINGS,
    *,
    columns: Sequence[Column] = (),
    embedding_dim: int | None = None,
    notify: Notify = lambda message: None,
) -> HashCollection:
    """Open a collection that matches the settings, or create it if it does not exist.

    If several runs do so at the same time, one creates the collection and all open it. An index that was dropped is
    built again, of the type in the settings.

    Args:
        columns: the columns of the settings, with the types that the dataset gives them.
        embedding_dim: length of the bundle's embedding, if the settings store it.
        notify: called with a message when an index was built again.

    Raises:
        ConfigError: if the collection does not match the settings; otherwise like `HashCollection.create`.
        StoreError: like `HashCollection.open` and `HashCollection.create`.
    """
    index, nlist = settings.index or "BIN_FLAT", DEFAULT_NLIST if settings.nlist is None else settings.nlist
    if not exists(client, check_name(name)):
        try:
            return HashCollection.create(
                client,
                name,
                manifest,
                index=index,
                nlist=nlist,
                code_hex=settings.code_hex,
                embedding_dim=embedding_dim,
                consistency=settings.consistency or "Bounded",
                columns=columns,
                partition_key=settings.partition_key,
                phash=settings.phash is not False,
            )
        except StoreError:
            if not exists(client, name):  # otherwise another run has created it meanwhile
                raise
    build_missing(client, name, manifest, index=index, nlist=nlist, notify=notify)
    collection = HashCollection.open(client, name, manifest)
    if differing := _differing(collection, settings, columns):
        raise ConfigError(
            f"the collection {name} was created {' and '.join(differing)}, which cannot be changed; use its own "
            "settings, or ingest into another collection",
            setting="collection_name",
        )
    return collection


def _differing(collection: HashCollection, settings: CollectionSettings, columns: Sequence[Column]) -> list[str]:
    """Properties of a collection that differ from the settings."""
    own = {column.name: column for column in collection.columns}
    differing = []
    if settings.index not in (None, collection.index):
        differing.append(f"with the index {collection.index}")
    if settings.code_hex and not collection.has_code_hex:
        differing.append("without code_hex")
    if settings.embedding and collection.embedding_dim is None:
        differing.append("without embeddings")
    if settings.phash not in (None, collection.has_phash):
        differing.append("with phash" if collection.has_phash else "without phash")
    for column in columns:
        if column.name not in own:
            differing.append(f"without the column {column}")
        elif column != own[column.name]:
            differing.append(f"with the column {own[column.name]}")
    if settings.partition_key not in (None, collection.partition_key):
        key = collection.partition_key
        differing.append(f"with the partition key {key}" if key else "without a partition key")
    return differing
