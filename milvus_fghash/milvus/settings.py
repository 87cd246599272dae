"""What a new collection is like, and whether an existing one can give the same."""

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
    """What a new collection is like. An existing one cannot be changed: what it cannot give is rejected.

    Attributes:
        index: ``"BIN_FLAT"`` compares with every row, ``"BIN_IVF_FLAT"`` with the nearest clusters only (servers).
            Default: BIN_FLAT.
        nlist: number of clusters of BIN_IVF_FLAT. Default: 128. An existing collection keeps its own.
        code_hex: keep the code as text too, which is cheaper to fetch than the vector.
        embedding: keep the bundle's embedding too.
        columns: typed columns of the photos' list, as ``NAME`` or ``NAME:TYPE`` (text, int64, double, bool). An
            existing collection may have more.
        partition_key: that of ``columns`` by whose values a server partitions the rows.
        phash: keep a perceptual hash of each photo, 8 bytes, which tells duplicates whatever the codes are. Default:
            yes.
        consistency: level of reads that name none. Default: Bounded. An existing collection keeps its own.

    Raises:
        ConfigError: for a single text as ``columns``.
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
    notify: Notify = lambda line: None,
) -> HashCollection:
    """Open the collection if it has what is asked for, or create it when there is none.

    Where several runs do so at once, one creates it and all of them open it. An index that was dropped is built again,
    of the kind that is asked for.

    Args:
        columns: those of the settings, with the types that the photos' list gives them.
        embedding_dim: length of the bundle's embedding, where the settings ask for it.
        notify: called with a line when an index was built again.

    Raises:
        ConfigError: when the collection cannot give what is asked for; otherwise as `HashCollection.create`.
        StoreError: as `HashCollection.open` and `HashCollection.create`.
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
            if not exists(client, name):  # else another run has made it since we looked
                raise
    build_missing(client, name, manifest, index=index, nlist=nlist, notify=notify)
    collection = HashCollection.open(client, name, manifest)
    if unlike := _unlike(collection, settings, columns):
        raise ConfigError(
            f"the collection {name} was made with {' and '.join(unlike)}, which cannot be changed; take it as it is, "
            "or ingest into another collection",
            setting="collection_name",
        )
    return collection


def _unlike(collection: HashCollection, asked: CollectionSettings, columns: Sequence[Column]) -> list[str]:
    """What a collection is like that was asked for otherwise."""
    own = {column.name: column for column in collection.columns}
    facts = {
        f"the index {collection.index}": asked.index not in (None, collection.index),
        "no code_hex": asked.code_hex and not collection.has_code_hex,
        "no embedding": asked.embedding and collection.embedding_dim is None,
        f"{'a' if collection.has_phash else 'no'} phash": asked.phash not in (None, collection.has_phash),
        **{
            f"the column {own[column.name]}" if column.name in own else f"no column {column}": column
            not in collection.columns
            for column in columns
        },
        f"the partition key {collection.partition_key or '(none)'}": asked.partition_key
        not in (None, collection.partition_key),
    }
    return [fact for fact, other in facts.items() if other]
