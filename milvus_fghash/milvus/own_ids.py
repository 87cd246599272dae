"""Own ids: the ids that a dataset's column `id` gives its photos, such as article numbers, stored in the rows' `meta`.

The primary key of a row is derived from namespace and path, so a row is looked up by its own id. Rows of datasets
without such a column, and rows written before own ids were stored, have none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from milvus_fghash.datasets.tables.columns import OWN_ID, own_id
from milvus_fghash.errors import StoreError
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.errors import TIMEOUT, milvus_call
from milvus_fghash.milvus.expressions import MAX_IDS_PER_CALL, is_one_of
from milvus_fghash.milvus.rows import is_utf8

ROW_ID: Final = re.compile("[0-9a-f]{32}")
"""Format of the primary keys that `photo_id` makes."""
MAX_ROWS_SHOWN: Final = 5
"""In a message."""


def row_ids(collection: HashCollection, texts: Iterable[str], namespace: str | None = None) -> dict[str, str]:
    """Text -> primary key of the row that it names; rows just written are included.

    A text of 32 hexadecimal digits that is the primary key of a row means that row. Any other text, including one of
    digits only, is taken as an own id if a row has it, and otherwise as a primary key. A text that names no row is not
    in the result.

    Args:
        namespace: namespace in which own ids are looked up; "" means rows without a namespace, None all rows.

    Raises:
        StoreError: if several rows have the same own id, or Milvus fails.
    """
    asked = [text for text in dict.fromkeys(texts) if is_utf8(text)]  # ids of rows are UTF-8
    named = _existing(collection, [text for text in asked if ROW_ID.fullmatch(text)])
    named |= _with_own_ids(collection, [text for text in asked if text not in named], namespace)
    return named | _existing(collection, [text for text in asked if text not in named])


def _existing(collection: HashCollection, texts: list[str]) -> dict[str, str]:
    return {key: key for there in collection.existing_ids(texts) for key in there}


def _with_own_ids(collection: HashCollection, texts: list[str], namespace: str | None) -> dict[str, str]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for start in range(0, len(texts), MAX_IDS_PER_CALL):
        part = texts[start : start + MAX_IDS_PER_CALL]
        with milvus_call(f"cannot read from {collection.name}"):
            rows = collection.client.query(
                collection.name,
                is_one_of(f'meta["{OWN_ID}"]', part),
                ["id", "path", "meta"],
                consistency_level="Strong",
                timeout=TIMEOUT,
            )
        for row in rows:
            inside = row["meta"].get("namespace", "")
            if namespace is None or inside == namespace:
                place = f"{row['path']}, namespace {inside}" if inside else row["path"]
                found[own_id(row["meta"])][row["id"]] = f"{row['id']} ({place})"
    for text, places in found.items():
        if len(places) > 1:
            shown = ", ".join(sorted(places.values())[:MAX_ROWS_SHOWN])
            others = " and others" if len(places) > MAX_ROWS_SHOWN else ""
            raise StoreError(
                f"{len(places):,} rows of {collection.name} have the own id {text!r}: {shown}{others}; "
                "give the primary key of one, or its namespace"
            )
    return {text: next(iter(places)) for text, places in found.items()}
