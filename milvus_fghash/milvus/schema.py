"""The schema of a collection: columns, indexes, and the metadata that identifies the model behind its codes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, Protocol, Self

from pydantic import AliasChoices, Field

from milvus_fghash.core.codes import code_bytes
from milvus_fghash.core.file_models import Frozen, read_model
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.errors import ConfigError, StoreError, nearest
from milvus_fghash.milvus.connection import Capabilities
from milvus_fghash.milvus.errors import TIMEOUT, milvus_call
from milvus_fghash.milvus.pymilvus_compat import DataType, MilvusClient
from milvus_fghash.milvus.rows import MAX_BYTES
from milvus_fghash.milvus.scalar_fields import (
    IDENTIFIER_RULE,
    PHASH,
    PHASH_DESCRIPTION,
    add_columns,
    is_identifier,
)

IndexType = Literal["BIN_FLAT", "BIN_IVF_FLAT"]

COLUMNS: Final = ("id", "path", "label", "content_sha", "meta")
"""Columns of every row, except the vectors."""
METRIC: Final = {"code": "HAMMING", "embedding": "COSINE"}
"""Vector field -> metric of its index."""
VECTORS: Final = tuple(METRIC)
MAX_NLIST: Final = 65_536


class ModelIdentity(Protocol):
    """Identifies a model: the manifest of a bundle, or the metadata of a collection or of shards."""

    @property
    def method(self) -> str: ...
    @property
    def lineage(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def bits(self) -> int: ...


class CollectionMetadata(Frozen):
    """The model that made the codes of a collection, as JSON in the description of the collection in Milvus."""

    format: Literal[1] = 1
    method: str
    lineage: str
    fingerprint: str
    bits: int
    bit_order: Literal["big"] = "big"
    collection_uid: str = Field(
        default="", validation_alias=AliasChoices("collection_uid", "born"), serialization_alias="born"
    )
    """Random identifier drawn when the collection is created: it differs from that of a dropped collection of the same
    name. "" in the metadata of shards. Its key on disk is `born`, as in collections created by earlier versions."""

    @classmethod
    def of(cls, manifest: ModelIdentity) -> Self:
        """Metadata of a new collection for the codes of a model."""
        return cls(
            method=manifest.method,
            lineage=manifest.lineage,
            fingerprint=manifest.fingerprint,
            bits=manifest.bits,
            collection_uid=uuid.uuid4().hex,
        )

    def check(self, manifest: ModelIdentity, collection: str) -> None:
        """Reject a model whose codes are not comparable with those in the collection.

        Raises:
            StoreError: if the fingerprints differ.
        """
        if manifest.fingerprint == self.fingerprint:
            return
        asked, inside = (text[:12] for text in (manifest.fingerprint, self.fingerprint))
        if manifest.lineage == self.lineage:
            why = "another state of the same training run"
        else:
            why = f"another model ({self.method}, {self.bits} bits)"
        raise StoreError(
            f"the collection {collection} was filled by {why}: its fingerprint is {inside}..., "
            f"the bundle's {asked}...; use that bundle, or ingest into a new collection"
        )


def read_metadata(collection: str, description: str) -> CollectionMetadata | None:
    """The metadata in a description; None if milvus-fghash did not create the collection.

    Raises:
        StoreError: if it cannot be read.
    """
    try:
        values = parse_json(description)["milvus_fghash"]
    except (ValueError, TypeError, KeyError):
        return None
    try:
        return read_model(CollectionMetadata, values, f"the description of the collection {collection}")
    except (ConfigError, TypeError, ValueError) as error:
        raise StoreError(f"{error}. It was changed, or made by a newer milvus-fghash") from error


def metadata_of(client: MilvusClient, name: str) -> CollectionMetadata | None:
    """The metadata of an existing collection; None if milvus-fghash did not create it.

    The collection need not be loaded or have an index.

    Raises:
        StoreError: if it cannot be read, or Milvus fails.
    """
    with milvus_call(f"cannot describe the collection {name}"):
        described = client.describe_collection(name, timeout=TIMEOUT)
    return read_metadata(name, described["description"])


def check_name(name: str) -> str:
    """Return ``name`` if a collection can have it.

    Raises:
        ConfigError: otherwise.
    """
    if not is_identifier(name):
        raise ConfigError(f"invalid collection name {name!r}: {IDENTIFIER_RULE}")
    return name


def check_index(milvus: Capabilities, index: str, nlist: int, embedding_dim: int | None) -> None:
    """Reject an index or embedding that this Milvus does not support, before anything is created.

    Raises:
        ConfigError: if nlist is out of range.
        StoreError: if the index or a second vector field is not supported.
    """
    where = "Milvus Lite" if milvus.kind == "lite" else f"Milvus {milvus.version}"
    if index not in milvus.index_types:
        raise StoreError(f"{where} has no index {index} for binary vectors. {nearest(index, milvus.index_types)}")
    if not 1 <= nlist <= MAX_NLIST:
        raise ConfigError(f"nlist must be 1 to {MAX_NLIST:,}, got {nlist}")
    if embedding_dim and not milvus.several_vectors:
        raise StoreError(f"{where} stores one vector per row; embeddings need Milvus 2.4 or later, or Milvus Lite")


def row_columns(columns: Sequence[str], phash: bool) -> list[str]:
    """The columns to query for `Rows`: those of every row, the typed ones, the perceptual hash and the code."""
    return [*COLUMNS, *columns, *([PHASH] if phash else []), "code"]


def row_schema(
    metadata: CollectionMetadata,
    code_hex: bool,
    embedding_dim: int | None,
    columns: Sequence[Column] = (),
    partition_key: str | None = None,
    phash: bool = True,
) -> Any:
    """The schema of a new collection, with the metadata as its description."""
    description = json.dumps({"milvus_fghash": metadata.model_dump(by_alias=True)})
    n_bytes = code_bytes(metadata.bits)
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False, description=description)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=MAX_BYTES["id"])
    schema.add_field("code", DataType.BINARY_VECTOR, dim=8 * n_bytes)
    for name in ("path", "label", "content_sha"):
        schema.add_field(name, DataType.VARCHAR, max_length=MAX_BYTES[name])
    schema.add_field("meta", DataType.JSON)
    if code_hex:
        schema.add_field("code_hex", DataType.VARCHAR, max_length=2 * n_bytes)
    if embedding_dim:
        schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=embedding_dim)
    if phash:
        schema.add_field(PHASH, DataType.INT64, description=PHASH_DESCRIPTION)
    add_columns(schema, columns, partition_key)
    return schema


def index_params(index: IndexType, nlist: int, fields: Iterable[str]) -> Any:
    """One index per vector field: Milvus does not load a collection that lacks one."""
    indexes = MilvusClient.prepare_index_params()
    for field in fields:
        kind = index if field == "code" else "AUTOINDEX"
        params = {"nlist": nlist} if kind == "BIN_IVF_FLAT" else {}
        indexes.add_index(field, index_type=kind, metric_type=METRIC[field], params=params)
    return indexes
