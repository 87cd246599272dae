"""Parquet files for Milvus' bulk import: the same rows give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.bounded_file import check_regular
from milvus_fghash.core.codes import code_bytes, to_hex
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.errors import DataError, StoreError, optional_extra
from milvus_fghash.milvus.pymilvus_compat import DataType
from milvus_fghash.milvus.rows import MAX_BYTES, Rows, check_ids
from milvus_fghash.milvus.scalar_fields import OWN_COLUMNS, PHASH
from milvus_fghash.milvus.schema import CollectionMetadata, row_schema

with optional_extra("parquet"):  # without types of its own
    pa: Any = import_module("pyarrow")
    pc: Any = import_module("pyarrow.compute")
    pq: Any = import_module("pyarrow.parquet")

DICTIONARY_COLUMNS: Final = ("label", "meta", "code")
"""Columns whose values or list elements repeat, as those of typed columns do: a dictionary compresses them."""
UNCOMPRESSED: Final = ("id", "content_sha", "code", "code_hex", "embedding", PHASH)
"""Columns that compression hardly makes smaller."""
_TYPES: Final[Mapping[DataType, Callable[[], Any]]] = {
    DataType.VARCHAR: pa.string,
    DataType.INT64: pa.int64,
    DataType.DOUBLE: pa.float64,
    DataType.BOOL: pa.bool_,
    DataType.JSON: pa.string,  # Milvus reads JSON from text
    DataType.BINARY_VECTOR: lambda: _list_of(pa.uint8()),  # one number per byte, which every Milvus accepts
    DataType.FLOAT_VECTOR: lambda: _list_of(pa.float32()),
}


def arrow_schema(
    metadata: CollectionMetadata,
    code_hex: bool,
    embedding_dim: int | None,
    columns: Sequence[Column] = (),
    phash: bool = True,
) -> Any:
    """The columns of a collection (`row_schema`) as an Arrow schema. Neither values nor list elements may be null."""
    fields = row_schema(metadata, code_hex, embedding_dim, columns, phash=phash).fields
    return pa.schema([pa.field(one.name, _TYPES[one.dtype](), nullable=False) for one in fields])


def to_table(rows: Rows, embeddings: NDArray[np.float32] | None, schema: Any) -> Any:
    """Rows as an Arrow table.

    Raises:
        StoreError: when a text does not fit its column in Milvus, or an id is invalid.
    """
    texts: dict[str, Callable[[], Sequence[str]]] = {
        "id": lambda: check_ids(rows.ids),
        "path": lambda: rows.paths,
        "label": lambda: rows.labels,
        "content_sha": lambda: rows.content_shas,
        "meta": lambda: _as_json(rows.metas),
        "code_hex": lambda: to_hex(rows.codes),
    }
    lists = {"code": rows.codes, "embedding": embeddings}

    def array(name: str, kind: Any) -> Any:
        if name in rows.columns:
            return pa.array(rows.columns[name], kind)
        if name == PHASH:
            return pa.array(rows.phashes_or_unknown, kind)
        return _lists(lists[name], kind) if name in lists else _texts(name, texts[name]())

    return pa.Table.from_arrays([array(field.name, field.type) for field in schema], schema=schema)


def write_table(table: Any, path: Path) -> None:
    """Write a table as one row group.

    Raises:
        OSError: when the file cannot be written.
    """
    leaf = {one.name: f"{one.name}.list.element" if pa.types.is_list(one.type) else one.name for one in table.schema}
    pq.write_table(
        table,
        path,
        row_group_size=max(1, len(table)),
        use_dictionary=[leaf[name] for name in leaf if name in DICTIONARY_COLUMNS or name not in OWN_COLUMNS],
        compression={leaf[name]: "none" if name in UNCOMPRESSED else "snappy" for name in leaf},
        write_statistics=False,  # an import reads all of it
    )


def read_ids(path: Path, batch: int) -> Iterator[list[str]]:
    """The ids of a shard, ``batch`` at a time.

    Raises:
        DataError: when the shard cannot be read.
    """
    ids = _read(path, ["id"]).column("id")
    for start in range(0, len(ids), batch):
        yield ids[start : start + batch].to_pylist()


def read_paths(path: Path) -> list[str]:
    """The paths of the photos of a shard; raises like `read_ids`."""
    paths: list[str] = _read(path, ["path"]).column("path").to_pylist()
    return paths


def read_rows(path: Path, places: Sequence[int], n_bits: int, columns: Sequence[str] = (), phash: bool = False) -> Rows:
    """Some rows of a shard, by position, with typed columns and, with ``phash``, perceptual hashes; raises like
    `read_ids`."""
    names = ["id", "path", "label", "content_sha", "meta", "code", *columns, *([PHASH] if phash else [])]
    found = _read(path, names).take(pa.array(places, pa.int64())).to_pydict()
    return Rows(
        ids=tuple(found["id"]),
        codes=np.array(found["code"], np.uint8).reshape(-1, code_bytes(n_bits)),
        paths=tuple(found["path"]),
        labels=tuple(found["label"]),
        content_shas=tuple(found["content_sha"]),
        metas=tuple(json.loads(text) for text in found["meta"]),
        columns={name: tuple(found[name]) for name in columns},
        phashes=tuple(found[PHASH]) if phash else (),
    )


def _read(path: Path, columns: list[str]) -> Any:
    try:
        check_regular(path)
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read the shard {path}: {error}") from None


def _list_of(element: Any) -> Any:
    return pa.list_(pa.field("element", element, nullable=False))


def _lists(values: NDArray[Any] | None, kind: Any) -> Any:
    """(n, width) numbers as n lists, without Python objects."""
    assert values is not None
    count, width = values.shape
    starts = np.arange(0, count * width + 1, width, dtype=np.int32)
    return pa.ListArray.from_arrays(starts, pa.array(np.ascontiguousarray(values).reshape(-1)), type=kind)


def _texts(column: str, values: Sequence[str]) -> Any:
    texts = pa.array(values, pa.string())
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest > MAX_BYTES.get(column, longest):
        raise StoreError(f"a {column} has {longest:,} bytes; the maximum is {MAX_BYTES[column]:,}")
    return texts


def _as_json(metas: Sequence[Mapping[str, Any]]) -> list[str]:
    """`meta` as JSON. Consecutive photos mostly have equal values, which are converted once."""
    texts: list[str] = []
    last, text = None, ""
    for meta in metas:
        if meta != last:
            text = json.dumps(meta, ensure_ascii=False, allow_nan=False)
            # In Python 1 equals 1.0 and True; a text equals only texts.
            last = meta if all(isinstance(value, str) for value in meta.values()) else None
        texts.append(text)
    return texts
