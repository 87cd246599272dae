"""Own ids: those that the column `id` of a list gives its photos, such as article numbers. Rows keep them in `meta`.

The id of a row follows from namespace and path, so an own id is looked for among the rows. Rows of a list without that
column, and those written before own ids were kept, have none.
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
"""What `photo_id` makes."""
MAX_ROWS_SHOWN: Final = 5
"""Rows named in a message."""


def row_ids(collection: HashCollection, texts: Iterable[str], namespace: str | None = None) -> dict[str, str]:
    """The ids of the rows that texts name, text by text; reads what was just written.

    A text of 32 hexadecimal digits that is a row's id means that row. Any other text, of digits alone too, is an own id
    where a row has it, and else a row's id. What names no row is not in the result.

    Args:
        namespace: where own ids are looked for; "" means rows without one, None all of them.

    Raises:
        StoreError: when several rows have an own id, or Milvus rejects.
    """
    asked = [text for text in dict.fromkeys(texts) if is_utf8(text)]  # no row has another
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
            raise StoreError(
                f"{len(places):,} rows of {collection.name} have the own id {text!r}: {shown}"
                f"{' and others' if len(places) > MAX_ROWS_SHOWN else ''}; name one of them by its row's id, or the namespace"
            )
    return {text: next(iter(places)) for text, places in found.items()}
