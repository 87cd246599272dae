"""Typed columns of a dataset in a collection: valid names, types, values and the partition key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from milvus_fghash.datasets.tables.columns import MAX_TEXT, Column, ColumnType, ExtraColumns
from milvus_fghash.errors import ConfigError, StoreError, nearest
from milvus_fghash.milvus.connection import Capabilities
from milvus_fghash.milvus.pymilvus_compat import DataType

PHASH: Final = "phash"
"""Name of the column of perceptual hashes."""
PHASH_DESCRIPTION: Final = "milvus-fghash perceptual hash 1"
"""Description of that column, which tells it from a column of the user with the same name."""
OWN_COLUMNS: Final = ("id", "code", "path", "label", "content_sha", "meta", "code_hex", "embedding", PHASH)
"""Columns that this project itself may add to a collection."""
RESERVED_NAMES: Final = (*OWN_COLUMNS, "split", "namespace", "distance")
"""Names that a typed column cannot have, since they have another meaning in rows and hits."""
FILTER_WORDS: Final = re.compile(
    r"and|or|not|in|like|exists|is|null|true|false|interval|iso|threshold|minimum_should_match|random_sample"
    r"|(text|phrase)_match|match_(all|any|least|most|exact)|(json|array)_contains(_all|_any)?|array_length|element_filter"
    r"|st_[a-z]+|rowid|timestamp",
    re.IGNORECASE,
)
"""Keywords of filters (Plan.g4 of Milvus) and names that Milvus reserves. Some crash Milvus Lite in a filter."""
MAX_NAME_LENGTH: Final = 255
IDENTIFIER_RULE: Final = (
    f"use letters, digits and underscores, not starting with a digit, at most {MAX_NAME_LENGTH} characters"
)
MAX_FIELDS: Final = 64
KEY_TYPES: Final[tuple[ColumnType, ...]] = ("text", "int64")
FIELD_TYPES: Final[Mapping[ColumnType, Any]] = {
    "text": DataType.VARCHAR,
    "int64": DataType.INT64,
    "double": DataType.DOUBLE,
    "bool": DataType.BOOL,
}


def requested_columns(words: Sequence[str], cells: ExtraColumns) -> tuple[Column, ...]:
    """Parse columns of a dataset, given as ``NAME`` or ``NAME:TYPE``. Without a type, that of the cells.

    Raises:
        ConfigError: if a name is invalid, or there is no such column or type.
    """
    columns = []
    for word in words:
        name, colon, kind = word.partition(":")
        check_column_name(name)
        if colon and not kind:
            raise ConfigError(f"the column {word!r} ends with a colon; add a type after it, or leave the colon out")
        columns.append(cells.column(name, kind))
    return tuple(columns)


def is_identifier(name: str) -> bool:
    """Whether Milvus accepts a name for a collection or a column."""
    return len(name) <= MAX_NAME_LENGTH and bool(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name))


def check_column_name(name: str) -> None:
    """Reject a name that a column of a collection cannot have.

    Raises:
        ConfigError: gives the reason.
    """
    if not is_identifier(name):
        why = IDENTIFIER_RULE
    elif name in RESERVED_NAMES:
        why = "the name is reserved"
    elif FILTER_WORDS.fullmatch(name):
        why = "the name is a keyword of filters, or reserved by Milvus"
    else:
        return
    raise ConfigError(
        f"invalid column name {name!r}: {why}; rename the column in the list, or leave it in `meta` as an untyped value"
    )


def check_columns(
    milvus: Capabilities | None, columns: Sequence[Column], partition_key: str | None, n_own: int
) -> None:
    """Reject columns that this Milvus does not support, before anything is created.

    Args:
        milvus: None if the Milvus is not known yet.
        n_own: number of fields that the project itself adds.

    Raises:
        ConfigError: if a name is invalid or repeated, there are too many columns, or the key is not one of them.
        StoreError: if Milvus has no partition keys.
    """
    types = {column.name: column.type for column in columns}
    for name in types:
        check_column_name(name)
    if len(types) != len(columns):
        raise ConfigError(f"a column is given twice: {', '.join(map(str, columns))}")
    if n_own + len(columns) > MAX_FIELDS:
        raise ConfigError(f"Milvus allows {MAX_FIELDS} fields, of which {n_own} are taken; got {len(columns)} columns")
    if partition_key is None:
        return
    if partition_key not in types:
        known = nearest(partition_key, types) if types else "There are none."
        raise ConfigError(f"the partition key {partition_key!r} must be one of the typed columns. {known}")
    if types[partition_key] not in KEY_TYPES:
        raise ConfigError(
            f"the partition key {partition_key!r} must be a column of type {' or '.join(KEY_TYPES)}, "
            f"not {types[partition_key]}"
        )
    if milvus is not None and not milvus.partition_keys:
        where = "Milvus Lite" if milvus.kind == "lite" else f"Milvus {milvus.version}"
        raise StoreError(f"{where} does not support partition keys; leave it out, or use a newer Milvus server")


def add_columns(schema: Any, columns: Sequence[Column], partition_key: str | None) -> None:
    """Add the columns to the schema of a new collection."""
    for column in columns:
        more = {"max_length": MAX_TEXT} if column.type == "text" else {}
        schema.add_field(column.name, FIELD_TYPES[column.type], is_partition_key=column.name == partition_key, **more)


def checked_values(columns: Sequence[Column], given: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Any, ...]]:
    """Check the values of typed columns: a missing one crashes Milvus Lite, and Milvus misreads some wrong types.

    Raises:
        StoreError: names the first invalid value.
    """
    if given.keys() != {column.name for column in columns}:
        wanted, got = (", ".join(map(str, names)) or "none" for names in (columns, given))
        raise StoreError(f"rows of this collection must have the columns {wanted}; got {got}")
    try:
        return {column.name: tuple(map(column.value, given[column.name])) for column in columns}
    except ValueError as error:
        raise StoreError(f"invalid value in a typed column: {error}") from None


def is_phash(field: Mapping[str, Any]) -> bool:
    """Whether a field, as described by Milvus, is the column of perceptual hashes of this project."""
    return (field["name"], field["type"], field.get("description")) == (PHASH, DataType.INT64, PHASH_DESCRIPTION)


def read_columns(fields: Sequence[Mapping[str, Any]]) -> tuple[tuple[Column, ...], str | None]:
    """The typed columns and the partition key of a collection, from its fields as described by Milvus.

    Nullable fields and those of other types were added by other programs; rows need no values for them.
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
