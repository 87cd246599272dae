"""A Milvus collection of codes: row schema, index, consistency, and which model filled it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from milvus_fghash.milvus.paging import query_pages
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
"""Clusters of BIN_IVF_FLAT, unless another number is asked for."""


@dataclass(frozen=True)
class HashCollection:
    """An open collection. Make one with `create` or `open`, or with `collection_settings.open_or_create`."""

    client: MilvusClient
    name: str
    metadata: CollectionMetadata
    index: str
    nlist: int | None
    """Number of clusters of BIN_IVF_FLAT."""
    consistency: str
    """Level of reads that name none."""
    has_code_hex: bool
    embedding_dim: int | None
    has_phash: bool
    """Whether each row keeps the perceptual hash of its photo."""
    fields: tuple[Mapping[str, Any], ...]
    """All of them, as Milvus describes them."""
    columns: tuple[Column, ...] = ()
    """Typed columns of its own, which each row has a value of."""
    partition_key: str | None = None
    """That of these columns by which Milvus parts the rows."""
    upserts: bool = True
    """Whether Milvus replaces rows in one call; else they are deleted, then inserted."""
    number: int = 0
    """By which a server knows it, whatever it is called; 0 on Milvus Lite, which has none."""
    lite: bool = False
    """Whether it is in a file of Milvus Lite."""
    timeout: float = TIMEOUT
    """Seconds that a call may take to write, read or delete rows, repeats of pymilvus included."""

    @property
    def bits(self) -> int:
        """Length of the codes."""
        return self.metadata.bits

    @property
    def uid(self) -> str:
        """Identifier that a collection dropped and created again under the same name does not share."""
        return self.metadata.collection_uid

    @property
    def column_names(self) -> tuple[str, ...]:
        """Of the typed columns."""
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
        """Make an empty collection for the codes of one model, with its index, ready for rows and searches.

        Args:
            index: BIN_FLAT compares with every row; BIN_IVF_FLAT with the nearest clusters only, on servers.
            nlist: number of clusters of BIN_IVF_FLAT.
            code_hex: keep the code as text too, which is cheaper to fetch than the vector.
            embedding_dim: length of a float vector kept with each row.
            columns: typed columns beside those that every collection has.
            partition_key: that of ``columns`` by whose values a server parts the rows.
            phash: keep a perceptual hash of each photo, 8 bytes, which tells duplicates whatever the codes are.

        Raises:
            ConfigError: when a name, nlist or the partition key cannot be.
            StoreError: when the name is taken, or Milvus rejects; no collection without an index is left behind.
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
            _drop_half_made(client, name)
            raise
        return cls.open(client, name, manifest)

    @classmethod
    def open(cls, client: MilvusClient, name: str, manifest: ModelIdentity | None = None) -> HashCollection:
        """Open a collection this project made; with a manifest, only if the same model made its codes.

        Of an alias, the collection it stands for now: whatever becomes of the alias, this one stays open.

        Raises:
            StoreError: when it is not there, not ours, without an index, or filled by another model.
        """
        name = resolve(client, check_name(name))
        with milvus_call(f"cannot open the collection {name}"):
            if not client.has_collection(name, timeout=TIMEOUT):
                known = [one for one in client.list_collections(timeout=TIMEOUT) if one != lite_aliases.COLLECTION]
                hint = nearest(name, known) if known else "There are none yet; ingest makes one."
                raise StoreError(f"there is no collection {name}. {hint}")
            described = client.describe_collection(name, timeout=TIMEOUT)
        metadata = _metadata(name, described)
        indexes = indexes_of(client, name, described["fields"])
        check_indexes(name, indexes)
        index = indexes["code"]
        widths = {one["name"]: one["params"].get("dim") for one in described["fields"]}
        if int(widths["code"]) != 8 * code_bytes(metadata.bits):
            raise StoreError(
                f"the collection {name} says {metadata.bits} bits, but its field `code` has {widths['code']}"
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
            number=described["collection_id"],
            lite=milvus.kind == "lite",
        )
        if manifest is not None:
            metadata.check(manifest, name)
        with milvus_call(f"cannot load the collection {name}"):
            client.load_collection(name, timeout=LOAD_TIMEOUT)
        return collection

    @staticmethod
    def drop(client: MilvusClient, name: str) -> None:
        """Delete a collection of ours with all its rows, one without an index too.

        Raises:
            StoreError: when it is not there, not ours, or what an alias stands for.
        """
        check_unused(client, check_name(name))
        with milvus_call(f"cannot drop {name}"):
            if not client.has_collection(name, timeout=TIMEOUT):
                raise StoreError(f"there is no collection {name}")
            if metadata_of(client, name) is None:
                raise StoreError(f"the collection {name} was not made by milvus-fghash, so it is not dropped")
            client.drop_collection(name, timeout=TIMEOUT)

    def check_model(self, manifest: ModelIdentity) -> None:
        """Reject a model whose codes cannot be compared with those in here now.

        Milvus is asked, for the collection may have been dropped and filled by another model since it was opened.

        Raises:
            StoreError: when the fingerprints differ, or the collection is gone.
        """
        _metadata(self.name, self._described(self.name)).check(manifest, self.name)

    def refers_to_this(self, name: str) -> bool:
        """Whether ``name``, which may be an alias, stands for this very collection now.

        Not so for another one that was made under the same name. It is one call to a server.

        Raises:
            StoreError: when there is nothing of that name, or Milvus does not answer.
        """
        described = self._described(resolve(self.client, name) if self.lite and name != self.name else name)
        metadata = read_metadata(self.name, described["description"])
        return (described["collection_id"], metadata) == (self.number, self.metadata)

    def _described(self, name: str) -> dict[str, Any]:
        with milvus_call(f"cannot describe the collection {name}"):
            described: dict[str, Any] = self.client.describe_collection(name, timeout=TIMEOUT)
        return described

    def upsert(self, rows: Rows, embeddings: NDArray[np.float32] | None = None) -> int:
        """Write rows, replacing those with the same ids; the number written.

        Of an id that stands twice, the last row counts.

        Raises:
            CodeError: when the codes have another width than the collection's.
            StoreError: when a value does not fit its column, an id cannot be one, or Milvus rejects.
            RowsTooLarge: as `write`.
        """
        values = self.field_values(rows, embeddings)
        self.write(values)
        return len(values["id"])

    def field_values(self, rows: Rows, embeddings: NDArray[np.float32] | None = None) -> FieldValues:
        """The first half of `upsert`: rows, checked and as `write` takes them. Raises like `upsert`."""
        check_codes(rows.codes, self.bits)
        self._check_embeddings(rows, embeddings)
        rows = replace(rows, columns=checked_values(self.columns, rows.columns))
        return rows.field_values(self.has_code_hex, embeddings, self.has_phash)

    def write(self, values: FieldValues) -> None:
        """The second half of `upsert`: write the rows that `field_values` made.

        Raises:
            CodeError: when a vector has another width than the collection's: Milvus may accept it and shift the others.
            StoreError: when a column is missing, an id is invalid or occurs twice, Milvus rejects the rows, or the
                collection was dropped and created again since it was opened: its codes may be of another model.
            RowsTooLarge: when single rows are larger than a message to Milvus may be; all others are written.
        """
        check_field_values(values, self.fields, self.bits, self.embedding_dim)
        check_quotes(self.client, values["id"], "write")
        if not self.refers_to_this(self.name):
            raise StoreError(f"the collection {self.name} was dropped and made anew since it was opened; open it again")
        with milvus_call(f"cannot write to {self.name}"):
            timeout = None if self.lite else self.timeout
            replace_rows(self.client, self.name, self.fields, values, self.upserts, timeout)

    def get(self, ids: Sequence[str]) -> Rows:
        """Rows by id, in the order of ``ids`` and without those that are not there; reads what was just written."""
        by_id = {one["id"]: one for one in self.query_by_id(ids, row_columns(self.column_names, self.has_phash))}
        found = [by_id[key] for key in dict.fromkeys(ids) if key in by_id]
        return Rows.from_records(found, self.bits, self.column_names, self.has_phash)

    def scan(self, batch: int = 1000, filter: str = "") -> Iterator[Rows]:
        """Every row that fits ``filter``, a batch at a time, in no particular order; reads what was just written."""
        for page in self.pages(row_columns(self.column_names, self.has_phash), batch, filter):
            yield Rows.from_records(page, self.bits, self.column_names, self.has_phash)

    def pages(self, columns: Sequence[str], batch: int = 1000, filter: str = "") -> Iterator[list[dict[str, Any]]]:
        """`scan` for those who want some columns only, as Milvus gives them: a code is a list of one `bytes`.

        Raises:
            ConfigError: when the filter cannot be read, see `filtered`.
            StoreError: when Milvus rejects.
        """
        with self.filtered(filter):
            self.count()  # waits for the last writes: the iterator of Milvus 2.3 does not, whatever level it is given
            yield from query_pages(self.client, self.name, columns, batch, filter.strip(), self.timeout)

    def check_filter(self, filter: str) -> None:
        """Reject a filter that Milvus would not read to the end as it is written; raises as `filtered`."""
        check_filter(filter, self.fields, self.lite)

    @contextmanager
    def filtered(self, filter: str) -> Iterator[None]:
        """For calls with a filter: it is checked before them, and what Milvus says of it is told with the columns.

        Raises:
            ConfigError: when it cannot be read, or Milvus Lite would read it in part.
        """
        self.check_filter(filter)
        with filter_errors(filter, self.fields):
            yield

    def existing_ids(self, ids: Sequence[str]) -> Iterator[list[str]]:
        """Those of ``ids`` that are there, each once, at most 1,000 at a time; reads what was just written."""
        asked = list(dict.fromkeys(ids))
        for start in range(0, len(asked), MAX_IDS_PER_CALL):
            part = asked[start : start + MAX_IDS_PER_CALL]
            there = {one["id"] for one in self.query_by_id(part, ["id"])}
            if there:
                yield [key for key in part if key in there]

    def delete(self, ids: Sequence[str]) -> int:
        """Delete rows, 1,000 at a time; the number of those that were there. Photo files stay.

        Raises:
            StoreError: when Milvus rejects; batches before that one are gone. Milvus Lite deletes no id with a '.
        """
        check_quotes(self.client, ids, "delete")
        deleted = 0
        for there in self.existing_ids(ids):  # Milvus counts the ids it was given, there or not
            with milvus_call(f"cannot delete from {self.name}"):
                self.client.delete(self.name, filter=id_is_one_of(there), timeout=self.timeout)
            deleted += len(there)
        return deleted

    def count(self, filter: str = "") -> int:
        """Number of rows that fit a filter, those just written included; raises as `filtered`."""
        with self.filtered(filter):
            return count_rows(self.client, self.name, filter, timeout=self.timeout)

    def query_by_id(self, ids: Sequence[str], columns: Sequence[str], consistency: Consistency = "Strong") -> list[Any]:
        """Rows with these ids as Milvus gives them, in no particular order."""
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
            raise CodeError(f"{self.name} takes embeddings of shape {wanted}, got {got}")


def _metadata(name: str, described: Mapping[str, Any]) -> CollectionMetadata:
    metadata = read_metadata(name, described["description"])
    if metadata is None:
        raise StoreError(f"the collection {name} was not created by milvus-fghash; choose another name")
    return metadata


def _drop_half_made(client: MilvusClient, name: str) -> None:
    """After a failure that is about to be raised: a second one must not hide it.

    One that has an index all the same was completed by another run, which may write to it.
    """
    with contextlib.suppress(StoreError), milvus_call(f"cannot drop {name}"):
        if not client.list_indexes(name, timeout=TIMEOUT):
            client.drop_collection(name, timeout=TIMEOUT)


def count_rows(client: MilvusClient, name: str, filter: str = "", timeout: float = TIMEOUT) -> int:
    """Number of rows that fit a filter, those just written included; of an id that stands twice, both.

    The filter is not checked: it is to be one of `id_is_one_of`.

    Raises:
        StoreError: when it is not loaded, or Milvus does not answer.
    """
    with milvus_call(f"cannot count the rows of {name}"):
        rows = client.query(name, filter, output_fields=["count(*)"], consistency_level="Strong", timeout=timeout)
    return int(rows[0]["count(*)"])
