"""Columns of a Parquet file as values for JSON. Needs pyarrow."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.types as types
from pyarrow import lib
from pyarrow.parquet import ParquetFile

from milvus_fghash.core.lfs_pointer import reject_pointer
from milvus_fghash.datasets.tables.columns import ColumnType
from milvus_fghash.errors import DataError


def header(file: Path) -> list[str]:
    """The names of all columns.

    Raises:
        DataError: when the file cannot be read.
    """
    with _opened(file) as content:
        return list(content.schema_arrow.names)


def columns(file: Path, as_texts: Collection[str]) -> tuple[list[str], list[list[Any]], dict[str, ColumnType]]:
    """Names, cells and types of the columns that JSON can hold, in the file's order.

    Dates and times become texts (2024-05-01 10:00:00), decimals doubles. Columns of lists or structures have no type;
    NaN in them becomes None. Columns that JSON cannot hold, such as bytes, and columns without a name are skipped.

    Args:
        as_texts: columns whose values the caller converts by `str`; they are read unchanged.

    Raises:
        DataError: when the file cannot be read, or one of ``as_texts`` holds bytes, lists or the like.
    """
    with _opened(file) as content:
        kinds = dict(zip(content.schema_arrow.names, content.schema_arrow.types, strict=True))
        for name in as_texts:
            if name in kinds and not _is_single(kinds[name]):
                raise DataError(f"{file}: the column {name!r} holds {kinds[name]}; expected texts or numbers")
        names = [name for name, kind in kinds.items() if name in as_texts or (name and _is_json(kind))]
        table = content.read(columns=names)
        cells = [table[name] if name in as_texts else _plain(table[name]) for name in names]
        known = {name: kind for name, column in zip(names, cells, strict=True) if (kind := _column_type(column.type))}
        return names, [_values(column) for column in cells], known


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    reject_pointer(file, DataError)
    try:
        with ParquetFile(file) as content:  # type: ignore[no-untyped-call]
            yield content
    except (lib.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from None


def _is_json(kind: Any) -> bool:
    """Whether JSON can hold the values of an Arrow type after `_plain`."""
    return _is_single(kind) or _is_nested_json(kind)


def _is_single(kind: Any) -> bool:
    """Whether values of an Arrow type are texts, numbers or times."""
    single = _is_time(kind) or types.is_decimal(kind) or types.is_null(kind) or _column_type(kind) is not None
    return bool(single)


def _is_nested_json(kind: Any) -> bool:
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_nested_json(kind.value_type)
    if types.is_struct(kind):
        return all(_is_nested_json(kind.field(place).type) for place in range(kind.num_fields))
    return types.is_null(kind) or _column_type(kind) is not None


def _is_time(kind: Any) -> bool:
    return bool(types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind))


def _plain(column: Any) -> Any:
    if _is_time(column.type):
        return column.cast(lib.string())
    return column.cast(lib.float64()) if types.is_decimal(column.type) else column


def _values(column: Any) -> list[Any]:
    """The cells; JSON has no NaN, so NaN in a nested column becomes a missing value."""
    cells: list[Any] = column.to_pylist()
    return [_without_nan(cell) for cell in cells] if types.is_nested(column.type) else cells


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _column_type(kind: Any) -> ColumnType | None:
    if types.is_dictionary(kind):
        return _column_type(kind.value_type)
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind):
        return "int64"
    if types.is_floating(kind):
        return "double"
    return "text" if types.is_string(kind) or types.is_large_string(kind) or _is_string_view(kind) else None


def _is_string_view(kind: Any) -> bool:
    """The text type of newer Arrow writers, such as polars; older pyarrow lacks it."""
    return bool(getattr(types, "is_string_view", lambda kind: False)(kind))
