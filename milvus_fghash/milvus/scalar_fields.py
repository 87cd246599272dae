"""Typed columns of a collection beside its own: names and types, the partition key, and what Milvus takes of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from milvus_fghash.datasets.tables.columns import MAX_TEXT, Column, ColumnType, ExtraColumns
from milvus_fghash.errors import ConfigError, StoreError, nearest
from milvus_fghash.milvus.connection import Capabilities
from milvus_fghash.milvus.pymilvus_compat import DataType

PHASH: Final = "phash"
"""Column of perceptual hashes."""
PHASH_DESCRIPTION: Final = "milvus-fghash perceptual hash 1"
"""Description of that column: of `core/perceptual_hash.py`. A collection of before may have one of its user's."""
OWN_COLUMNS: Final = ("id", "code", "path", "label", "content_sha", "meta", "code_hex", "embedding", PHASH)
"""Columns that the project itself may give a collection."""
RESERVED_NAMES: Final = (*OWN_COLUMNS, "split", "namespace", "distance")
"""Words that mean something else in rows and hits."""
FILTER_WORDS: Final = re.compile(
    r"and|or|not|in|like|exists|is|null|true|false|interval|iso|threshold|minimum_should_match|random_sample"
    r"|(text|phrase)_match|match_(all|any|least|most|exact)|(json|array)_contains(_all|_any)?|array_length|element_filter"
    r"|st_[a-z]+|rowid|timestamp",
    re.IGNORECASE,
)
"""Words of Milvus' filters (its Plan.g4), and names it keeps for itself. Milvus Lite dies of some in a filter."""
MAX_NAME: Final = 255
MAX_FIELDS: Final = 64
KEY_TYPES: Final[tuple[ColumnType, ...]] = ("text", "int64")
FIELD_TYPES: Final[Mapping[ColumnType, Any]] = {
    "text": DataType.VARCHAR,
    "int64": DataType.INT64,
    "double": DataType.DOUBLE,
    "bool": DataType.BOOL,
}


def requested_columns(words: Sequence[str], cells: ExtraColumns) -> tuple[Column, ...]:
    """Columns of a list as ``NAME`` or ``NAME:TYPE``; without a type, that of its cells.

    Raises:
        ConfigError: when a name cannot be one, or there is no such column or type.
    """
    columns = []
    for word in words:
        name, colon, kind = word.partition(":")
        check_column_name(name)
        if colon and not kind:
            raise ConfigError(f"the column {word!r} ends in a colon; give a type behind it, or leave it out")
        columns.append(cells.column(name, kind))
    return tuple(columns)


def check_column_name(name: str) -> None:
    """Reject what a column of a collection cannot be called.

    Raises:
        ConfigError: says why.
    """
    if len(name) > MAX_NAME or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        why = f"Milvus takes letters, digits and underscores, no digit first, at most {MAX_NAME}"
    elif name in RESERVED_NAMES:
        why = "the name has a meaning of its own here"
    elif FILTER_WORDS.fullmatch(name):
        why = "the word means something in filters, or to Milvus itself"
    else:
        return
    raise ConfigError(f"a column cannot be called {name!r}: {why}; rename it in the list, or leave it to `meta`")


def check_columns(
    milvus: Capabilities | None, columns: Sequence[Column], partition_key: str | None, n_own: int
) -> None:
    """Reject columns that this Milvus cannot have, before anything is created.

    Args:
        milvus: None when it is not known yet which Milvus it will be.
        n_own: number of the collection's own fields.

    Raises:
        ConfigError: when a name cannot be one or stands twice, there are too many, or the key is none of them.
        StoreError: when Milvus has no partition keys.
    """
    types = {column.name: column.type for column in columns}
    for name in types:
        check_column_name(name)
    if len(types) != len(columns):
        raise ConfigError(f"a column stands twice in {', '.join(map(str, columns))}")
    if n_own + len(columns) > MAX_FIELDS:
        raise ConfigError(f"Milvus holds {MAX_FIELDS} fields, {n_own} of them are taken; got {len(columns)} columns")
    if partition_key is None:
        return
    if partition_key not in types:
        known = nearest(partition_key, types) if types else "There are none yet."
        raise ConfigError(f"the partition key {partition_key!r} must be one of the columns asked for. {known}")
    if types[partition_key] not in KEY_TYPES:
        raise ConfigError(
            f"the partition key {partition_key!r} must be a column of type {' or '.join(KEY_TYPES)}, "
            f"not {types[partition_key]}"
        )
    if milvus is not None and not milvus.partition_keys:
        where = "Milvus Lite" if milvus.kind == "lite" else f"Milvus {milvus.version}"
        raise StoreError(f"{where} cannot search by a partition key; leave it out, or use a newer Milvus server")


def add_columns(schema: Any, columns: Sequence[Column], partition_key: str | None) -> None:
    """Add the columns to the schema of a new collection."""
    for column in columns:
        more = {"max_length": MAX_TEXT} if column.type == "text" else {}
        schema.add_field(column.name, FIELD_TYPES[column.type], is_partition_key=column.name == partition_key, **more)


def checked_values(columns: Sequence[Column], given: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Any, ...]]:
    """The values of rows, if they are those of the collection's columns.

    Milvus Lite dies of a value that is missing, and Milvus reads some others as what they are not.

    Raises:
        StoreError: names the first that does not fit.
    """
    if given.keys() != {column.name for column in columns}:
        wanted, got = (", ".join(map(str, names)) or "none" for names in (columns, given))
        raise StoreError(f"the rows of this collection have the columns {wanted}; got {got}")
    try:
        return {column.name: tuple(map(column.value, given[column.name])) for column in columns}
    except ValueError as error:
        raise StoreError(f"a column of the rows does not fit: {error}") from None


def is_phash(field: Mapping[str, Any]) -> bool:
    """Whether a field, as Milvus describes it, holds the perceptual hashes of this project."""
    return (field["name"], field["type"], field.get("description")) == (PHASH, DataType.INT64, PHASH_DESCRIPTION)


def read_columns(fields: Sequence[Mapping[str, Any]]) -> tuple[tuple[Column, ...], str | None]:
    """The typed columns and the partition key of a collection, from its fields as Milvus describes them.

    Fields of other types, and those that may be null, were added by others; rows need no values of them.
    """
    type_of = {kind: name for name, kind in FIELD_TYPES.items()}
    columns = tuple(
        Column(one["name"], type_of[one["type"]])
        for one in fields
        if (one["name"] not in OWN_COLUMNS or (one["name"] == PHASH and not is_phash(one)))
        and one["type"] in type_of
        and not one.get("nullable")
    )
    return columns, next((one["name"] for one in fields if one.get("is_partition_key")), None)
