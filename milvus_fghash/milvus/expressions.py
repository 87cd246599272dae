"""Filter expressions that match ids, with strings quoted so that none can break out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from milvus_fghash.errors import StoreError
from milvus_fghash.milvus.connection import probe
from milvus_fghash.milvus.pymilvus_compat import MilvusClient

MAX_IDS_PER_CALL: Final = 1000
"""Each id may have 64 bytes."""

_ENDS: Final = r'["\\\n\r]'
"""Characters that must be escaped between double quotes."""


def id_is_one_of(ids: Sequence[str]) -> str:
    """The filter that matches the rows with these ids.

    >>> id_is_one_of(["7", 'a"b'])
    'id in ["7", "a\\\\"b"]'
    """
    return is_one_of("id", ids)


def is_one_of(column: str, texts: Sequence[str]) -> str:
    """The filter that a column, or a part of one such as ``meta["id"]``, is one of the strings.

    pymilvus puts ids between single quotes without escaping them, so an id with a quote would become part of the
    filter. This escapes like JSON, but only the characters that would end a string: Milvus Lite supports few escapes.
    """
    return f"{column} in [{', '.join(map(_quoted, texts))}]"


def _quoted(text: str) -> str:
    return f'"{re.sub(_ENDS, lambda found: json.dumps(found[0])[1:-1], text)}"'


def check_quotes(client: MilvusClient, ids: Sequence[str], action: str) -> None:
    """Reject ids with a single quote on Milvus Lite.

    Milvus Lite 2 puts ids into an SQL statement between single quotes, unescaped: an id with a quote fails at best, and
    deletes other rows at worst.

    Args:
        action: the action that is about to be taken, such as "delete".

    Raises:
        StoreError: names the first such id.
    """
    odd = [key for key in ids if "'" in key]
    if odd and probe(client).kind == "lite":
        raise StoreError(
            f"Milvus Lite cannot {action} the row {odd[0]!r}: its id contains a single quote. Use another id, or "
            "a Milvus server"
        )
