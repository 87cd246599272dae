"""A Milvus collection of binary codes: create, open, write, read and delete rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.codes import check_codes, code_bytes
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.errors import CodeError, StoreError, nearest
from milvus_fghash.milvus import lite_aliases
from milvus_fghash.milvus.aliases import check_unused, exists, resolve
from milvus_fghash.milvus.connection import probe
from milvus_fghash.milvus.errors import LOAD_TIMEOUT, TIMEOUT, milvus_call
from milvus_fghash.milvus.expressions import MAX_IDS_PER_CALL, check_quotes, id_is_one_of
from milvus_fghash.milvus.filters import check_filter, filter_errors
from milvus_fghash.milvus.indexes import check_indexes, indexes_of
from milvus_fghash.milvus.pymilvus_compat import MilvusClient
from milvus_fghash.milvus.rows import FieldValues, Rows, check_field_values
from milvus_fghash.milvus.scalar_fields import check_columns, checked_values, is_phash, read_columns
from milvus_fghash.milvus.schema import (
    COLUMNS,
    VECTORS,
    CollectionMetadata,
    IndexType,
    ModelIdentity,
    check_index,
    check_name,
    index_params,
    metadata_of,
    read_metadata,
    row_columns,
    row_schema,
)
from milvus_fghash.milvus.upsert import replace_rows

Consistency = Literal["Strong", "Session", "Bounded", "Eventually"]
DEFAULT_NLIST: Final = 128
"""Default number of clusters of BIN_IVF_FLAT."""


@dataclass(frozen=True)
class HashCollection:
    """A collection of binary codes in Milvus, open for reading and writing.

    Get one from `create` or `open`. The attributes describe the collection as it was when it was opened.

    Attributes:
        client: connection to Milvus, owned by the caller.
        name: name of the collection, never an alias.
        metadata: the model that made the codes, from the description of the collection.
        index: type of the index of the codes: ``"BIN_FLAT"`` or ``"BIN_IVF_FLAT"``.
        nlist: number of clusters of BIN_IVF_FLAT; None for another index.
        consistency: consistency level of reads that do not specify one.
        has_code_hex: whether rows store the code as hexadecimal text, too.
        embedding_dim: length of the float vector stored with each row; None without one.
        has_phash: whether rows store the perceptual hash of the photo.
        fields: all fields, as described by Milvus.
        columns: the typed columns of the dataset, of which each row has a value.
        partition_key: the column of ``columns`` by which Milvus partitions the rows; None without one.
        upserts: whether Milvus replaces rows in one call; otherwise they are deleted and inserted.
        collection_id: number that a server gives a collection independently of its name; 0 on Milvus Lite.
        is_lite: whether the collection is in a Milvus Lite file.
        timeout: seconds that a call may take to write, read or delete rows, including retries by pymilvus.

    Examples:
        ::

            client = pymilvus.MilvusClient("http://localhost:19530")
            collection = HashCollection.open(client, "birds", encoder.bundle.manifest)
            for rows in collection.scan(filter='label == "robin"'):
                print(rows.ids, rows.codes.shape)
    """

    client: MilvusClient
    name: str
    metadata: CollectionMetadata
    index: str
    nlist: int | None
    consistency: str
    has_code_hex: bool
    embedding_dim: int | None
    has_phash: bool
    fields: tuple[Mapping[str, Any], ...]
    columns: tuple[Column, ...] = ()
    partition_key: str | None = None
    upserts: bool = True
    collection_id: int = 0
    is_lite: bool = False
    timeout: float = TIMEOUT

    @property
    def bits(self) -> int:
        """Length of the codes in bits."""
        return self.metadata.bits

    @property
    def uid(self) -> str:
        """Identifier that differs for a collection that was dropped and created again under the same name."""
        return self.metadata.collection_uid

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the typed columns."""
        return tuple(column.name for column in self.columns)

    @classmethod
    def create(
        cls,
        client: MilvusClient,
        name: str,
        manifest: ModelIdentity,
        *,
        index: IndexType = "BIN_FLAT",
        nlist: int = DEFAULT_NLIST,
        code_hex: bool = False,
        embedding_dim: int | None = None,
        consistency: Consistency = "Bounded",
        columns: Sequence[Column] = (),
        partition_key: str | None = None,
        phash: bool = True,
    ) -> HashCollection:
        """Create an empty collection for the codes of one model, with its index, and open it.

        Args:
            client: connection to Milvus.
            name: name of the new collection.
            manifest: identity of the model, such as ``bundle.manifest``.
            index: ``"BIN_FLAT"`` compares a query with every row; ``"BIN_IVF_FLAT"`` (servers only) with the rows of
                the nearest clusters.
            nlist: number of clusters of BIN_IVF_FLAT.
            code_hex: store the code as hexadecimal text, too, which is cheaper to read than the vector.
            embedding_dim: length of a float vector to store with each row; None for none.
            consistency: consistency level of reads that do not specify one.
            columns: typed columns beside those of every collection.
            partition_key: the column of ``columns`` by whose values a server partitions the rows.
            phash: store the perceptual hash of each photo (8 bytes), by which duplicates are found.

        Returns:
            The open collection.

        Raises:
            ConfigError: if a name, ``nlist`` or the partition key is invalid.
            StoreError: if the name is taken, or Milvus fails; no collection without an index is left behind.
        """
        check_name(name)
        milvus = probe(client)
        check_index(milvus, index, nlist, embedding_dim)
        check_columns(milvus, columns, partition_key, len(COLUMNS) + 1 + code_hex + bool(embedding_dim) + phash)
        if exists(client, name):
            raise StoreError(f"the collection {name} exists; open it, drop it, or choose another name")
        schema = row_schema(CollectionMetadata.of(manifest), code_hex, embedding_dim, columns, partition_key, phash)
        with milvus_call(f"cannot create {name}"):
            client.create_collection(name, schema=schema, consistency_level=consistency, timeout=TIMEOUT)
        vectors = VECTORS if embedding_dim else VECTORS[:1]
        try:
            with milvus_call(f"cannot create {name}"):
                client.create_index(name, index_params(index, nlist, vectors), timeout=LOAD_TIMEOUT)
        except BaseException:
            _drop_incomplete(client, name)
            raise
        return cls.open(client, name, manifest)

    @classmethod
    def open(cls, client: MilvusClient, name: str, manifest: ModelIdentity | None = None) -> HashCollection:
        """Open a collection that milvus-fghash created, and load it for searches.

        Args:
            client: connection to Milvus.
            name: name of the collection, or an alias. The collection stays open even if the alias is moved later.
            manifest: identity of a model. The collection is opened only if this model made its codes.

        Returns:
            The open collection.

        Raises:
            ConfigError: if the name is invalid.
            StoreError: if there is no such collection, milvus-fghash did not create it, it has no index, or another
                model filled it.
        """
        name = resolve(client, check_name(name))
        with milvus_call(f"cannot open the collection {name}"):
            if not client.has_collection(name, timeout=TIMEOUT):
                known = [one for one in client.list_collections(timeout=TIMEOUT) if one != lite_aliases.COLLECTION]
                hint = nearest(name, known) if known else "There are none yet; ingest creates one."
                raise StoreError(f"there is no collection {name}. {hint}")
            described = client.describe_collection(name, timeout=TIMEOUT)
        metadata = _metadata(name, described)
        indexes = indexes_of(client, name, described["fields"])
        check_indexes(name, indexes)
        index = indexes["code"]
        widths = {one["name"]: one["params"].get("dim") for one in described["fields"]}
        if int(widths["code"]) != 8 * code_bytes(metadata.bits):
            raise StoreError(
                f"the metadata of the collection {name} says {metadata.bits} bits, but its field `code` has "
                f"{widths['code']}"
            )
        columns, partition_key = read_columns(described["fields"])
        milvus = probe(client)
        collection = cls(
            client=client,
            name=name,
            metadata=metadata,
            index=index["index_type"],
            nlist=int(index["nlist"]) if "nlist" in index else None,
            consistency=described["consistency_level_name"],
            has_code_hex="code_hex" in widths,
            embedding_dim=int(widths["embedding"]) if "embedding" in widths else None,
            has_phash=any(map(is_phash, described["fields"])),
            fields=tuple(described["fields"]),
            columns=columns,
            partition_key=partition_key,
            upserts=partition_key is None or milvus.keyed_upsert,
            collection_id=described["collection_id"],
            is_lite=milvus.kind == "lite",
        )
        if manifest is not None:
            metadata.check(manifest, name)
        with milvus_call(f"cannot load the collection {name}"):
            client.load_collection(name, timeout=LOAD_TIMEOUT)
        return collection

    @staticmethod
    def drop(client: MilvusClient, name: str) -> None:
        """Drop a collection that milvus-fghash created, with all its rows. It need not have an index.

        Args:
            client: connection to Milvus.
            name: name of the collection, not an alias.

        Raises:
            StoreError: if there is no such collection, milvus-fghash did not create it, or an alias points to it.
        """
        check_unused(client, check_name(name))
        with milvus_call(f"cannot drop {name}"):
            if not client.has_collection(name, timeout=TIMEOUT):
                raise StoreError(f"there is no collection {name}")
            if metadata_of(client, name) is None:
                raise StoreError(f"the collection {name} was not created by milvus-fghash, so it is not dropped")
            client.drop_collection(name, timeout=TIMEOUT)

    def check_model(self, manifest: ModelIdentity) -> None:
        """Reject a model whose codes are not comparable with those that the collection holds now.

        The metadata is read from Milvus again, since the collection may have been dropped and filled by another model.

        Args:
            manifest: identity of the model.

        Raises:
            StoreError: if the fingerprints differ, or the collection no longer exists.
        """
        _metadata(self.name, self._described(self.name)).check(manifest, self.name)

    def refers_to_this(self, name: str) -> bool:
        """Whether a name or alias refers to this collection now. It takes one call to a server.

        A collection that was dropped and created again under the same name is another one.

        Args:
            name: name of a collection, or an alias.

        Raises:
            StoreError: if there is no such collection or alias, or Milvus fails.
        """
        described = self._described(resolve(self.client, name) if self.is_lite and name != self.name else name)
        metadata = read_metadata(self.name, described["description"])
        return (described["collection_id"], metadata) == (self.collection_id, self.metadata)

    def _described(self, name: str) -> dict[str, Any]:
        with milvus_call(f"cannot describe the collection {name}"):
            described: dict[str, Any] = self.client.describe_collection(name, timeout=TIMEOUT)
        return described

    def upsert(self, rows: Rows, embeddings: NDArray[np.float32] | None = None) -> int:
        """Write rows, in place of those with the same ids.

        Args:
            rows: the rows. If an id occurs more than once, its last row is written.
            embeddings: (n, embedding_dim) float32, exactly if the collection stores embeddings.

        Returns:
            Number of rows written.

        Raises:
            CodeError: if codes or embeddings have another shape than those of the collection.
            StoreError: if a value does not fit its column, an id is invalid, or Milvus fails.
            RowsTooLarge: if single rows are larger than a message to Milvus may be; all others are written.
        """
        values = self.field_values(rows, embeddings)
        self.write(values)
        return len(values["id"])

    def field_values(self, rows: Rows, embeddings: NDArray[np.float32] | None = None) -> FieldValues:
        """The first half of `upsert`: check rows, and arrange them as `write` takes them.

        Args:
            rows: as for `upsert`.
            embeddings: as for `upsert`.

        Returns:
            Field -> one value per row.

        Raises:
            CodeError, StoreError: like `upsert`.
        """
        check_codes(rows.codes, self.bits)
        self._check_embeddings(rows, embeddings)
        rows = replace(rows, columns=checked_values(self.columns, rows.columns))
        return rows.field_values(self.has_code_hex, embeddings, self.has_phash)

    def write(self, values: FieldValues) -> None:
        """The second half of `upsert`: write the rows that `field_values` made.

        Args:
            values: field -> one value per row.

        Raises:
            CodeError: if a vector has another width than the collection's: Milvus may accept it and shift the others.
            StoreError: if a column is missing, an id is invalid or occurs twice, Milvus fails, or the collection was
                dropped and created again since it was opened: its codes may be from another model.
            RowsTooLarge: if single rows are larger than a message to Milvus may be; all others are written.
        """
        check_field_values(values, self.fields, self.bits, self.embedding_dim)
        check_quotes(self.client, values["id"], "write")
        if not self.refers_to_this(self.name):
            raise StoreError(
                f"the collection {self.name} was dropped and created again since it was opened; open it again"
            )
        with milvus_call(f"cannot write to {self.name}"):
            timeout = None if self.is_lite else self.timeout
            replace_rows(self.client, self.name, self.fields, values, self.upserts, timeout)

    def get(self, ids: Sequence[str]) -> Rows:
        """Read rows by id. Rows just written are included.

        Args:
            ids: primary keys.

        Returns:
            The rows that exist, in the order of ``ids``, each once.

        Raises:
            StoreError: if Milvus fails.
        """
        by_id = {one["id"]: one for one in self.query_by_id(ids, row_columns(self.column_names, self.has_phash))}
        found = [by_id[key] for key in dict.fromkeys(ids) if key in by_id]
        return Rows.from_records(found, self.bits, self.column_names, self.has_phash)

    def scan(self, batch: int = 1000, filter: str = "") -> Iterator[Rows]:
        """Read all rows, or those that match a filter, in no particular order. Rows just written are included.

        Args:
            batch: number of rows per batch.
            filter: Milvus filter expression; "" for all rows.

        Yields:
            The rows, a batch at a time.

        Raises:
            ConfigError: if the filter is invalid.
            StoreError: if Milvus fails.
        """
        for page in self.pages(row_columns(self.column_names, self.has_phash), batch, filter):
            yield Rows.from_records(page, self.bits, self.column_names, self.has_phash)

    def pages(self, columns: Sequence[str], batch: int = 1000, filter: str = "") -> Iterator[list[dict[str, Any]]]:
        """Like `scan`, but with some columns only, and as Milvus returns the rows: a code is a list of one `bytes`.

        Args:
            columns: names of the columns.
            batch: number of rows per page.
            filter: Milvus filter expression; "" for all rows.

        Yields:
            The rows of a page, each a dict.

        Raises:
            ConfigError: if the filter is invalid.
            StoreError: if Milvus fails.
        """
        with self.filtered(filter):
            self.count()  # waits for recent writes: the iterator of Milvus 2.3 does not, at any consistency level
            with milvus_call(f"cannot read {self.name}"):
                iterator = self.client.query_iterator(
                    self.name,
                    batch,
                    filter=filter.strip(),
                    output_fields=list(columns),
                    consistency_level="Strong",
                    timeout=self.timeout,
                )
            with closing(iterator):
                while True:
                    with milvus_call(f"cannot read {self.name}"):
                        page = iterator.next()
                    if not page:
                        return
                    yield page

    def check_filter(self, filter: str) -> None:
        """Reject a filter that this Milvus would not evaluate completely and correctly.

        Args:
            filter: Milvus filter expression; a blank one is valid.

        Raises:
            ConfigError: names the position, the reason, and the columns of the collection.
        """
        check_filter(filter, self.fields, self.is_lite)

    @contextmanager
    def filtered(self, filter: str) -> Iterator[None]:
        """For a block of calls with a filter: check it first, and explain an error of Milvus about it.

        Args:
            filter: Milvus filter expression; a blank one is valid.

        Raises:
            ConfigError: if the filter is invalid, see `check_filter`.
        """
        self.check_filter(filter)
        with filter_errors(filter, self.fields):
            yield

    def existing_ids(self, ids: Sequence[str]) -> Iterator[list[str]]:
        """Find out which rows exist. Rows just written are included.

        Args:
            ids: primary keys.

        Yields:
            Those of ``ids`` that exist, each once, at most 1,000 at a time.

        Raises:
            StoreError: if Milvus fails.
        """
        asked = list(dict.fromkeys(ids))
        for start in range(0, len(asked), MAX_IDS_PER_CALL):
            part = asked[start : start + MAX_IDS_PER_CALL]
            there = {one["id"] for one in self.query_by_id(part, ["id"])}
            if there:
                yield [key for key in part if key in there]

    def delete(self, ids: Sequence[str]) -> int:
        """Delete rows, 1,000 at a time. Photo files are not touched.

        An ingest would write the rows again: `Catalog.delete` records the deletion in the ingest journal, too.

        Args:
            ids: primary keys.

        Returns:
            Number of rows that existed.

        Raises:
            StoreError: if Milvus fails, after which earlier batches are deleted, or an id has a single quote, which
                Milvus Lite cannot delete.
        """
        check_quotes(self.client, ids, "delete")
        deleted = 0
        for there in self.existing_ids(ids):  # Milvus counts all ids it is given
            with milvus_call(f"cannot delete from {self.name}"):
                self.client.delete(self.name, filter=id_is_one_of(there), timeout=self.timeout)
            deleted += len(there)
        return deleted

    def count(self, filter: str = "") -> int:
        """Count rows. Rows just written are included.

        Args:
            filter: Milvus filter expression; "" for all rows.

        Returns:
            Number of rows that match.

        Raises:
            ConfigError: if the filter is invalid.
            StoreError: if Milvus fails.
        """
        with self.filtered(filter):
            return count_rows(self.client, self.name, filter, timeout=self.timeout)

    def query_by_id(self, ids: Sequence[str], columns: Sequence[str], consistency: Consistency = "Strong") -> list[Any]:
        """Like `get`, but with some columns only, and as Milvus returns the rows, in no particular order.

        Args:
            ids: primary keys, at most `MAX_IDS_PER_CALL`.
            columns: names of the columns.
            consistency: consistency level of the read.

        Returns:
            The rows that exist, each a dict.

        Raises:
            StoreError: if Milvus fails.
        """
        if not ids:
            return []
        with milvus_call(f"cannot read from {self.name}"):
            found: list[Any] = self.client.query(
                self.name, id_is_one_of(ids), list(columns), consistency_level=consistency, timeout=self.timeout
            )
        return found

    def _check_embeddings(self, rows: Rows, embeddings: NDArray[np.float32] | None) -> None:
        wanted = None if self.embedding_dim is None else (len(rows), self.embedding_dim)
        got = None if embeddings is None else embeddings.shape
        if wanted != got:
            raise CodeError(f"{self.name} requires embeddings of shape {wanted}, got {got}")


def _metadata(name: str, described: Mapping[str, Any]) -> CollectionMetadata:
    metadata = read_metadata(name, described["description"])
    if metadata is None:
        raise StoreError(f"the collection {name} was not created by milvus-fghash; choose another name")
    return metadata


def _drop_incomplete(client: MilvusClient, name: str) -> None:
    """Clean up after a failure that is about to be raised, and that a second failure must not hide.

    If the collection has an index nevertheless, another run completed it and may write to it.
    """
    with contextlib.suppress(StoreError), milvus_call(f"cannot drop {name}"):
        if not client.list_indexes(name, timeout=TIMEOUT):
            client.drop_collection(name, timeout=TIMEOUT)


def count_rows(client: MilvusClient, name: str, filter: str = "", timeout: float = TIMEOUT) -> int:
    """Number of rows that match a filter, rows just written included. Two rows with the same id both count.

    The filter is not checked; use one of `id_is_one_of`.

    Raises:
        StoreError: if the collection is not loaded, or Milvus fails.
    """
    with milvus_call(f"cannot count the rows of {name}"):
        rows = client.query(name, filter, output_fields=["count(*)"], consistency_level="Strong", timeout=timeout)
    return int(rows[0]["count(*)"])
