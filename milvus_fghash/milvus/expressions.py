"""Conditions in the language of Milvus, with texts quoted so that none can break out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from milvus_fghash.errors import StoreError
from milvus_fghash.milvus.connection import probe
from milvus_fghash.milvus.pymilvus_compat import MilvusClient

MAX_IDS_PER_CALL: Final = 1000
"""Ids named in one call; each may have 64 bytes."""

_ENDS: Final = r'["\\\n\r]'
"""Letters that cannot stand between double quotes as they are."""


def id_is_one_of(ids: Sequence[str]) -> str:
    """The condition that holds for rows with these ids.

    >>> id_is_one_of(["7", 'a"b'])
    'id in ["7", "a\\\\"b"]'
    """
    return is_one_of("id", ids)


def is_one_of(what: str, texts: Sequence[str]) -> str:
    """The condition that ``what``, such as ``meta["id"]``, is one of the texts.

    pymilvus puts ids between single quotes as they are, so an id with a quote in it would become part of the condition.
    Here are the escapes of JSON, and only those without which a text would end: Milvus Lite knows few of them.
    """
    return f"{what} in [{', '.join(map(_quoted, texts))}]"


def _quoted(text: str) -> str:
    return f'"{re.sub(_ENDS, lambda found: json.dumps(found[0])[1:-1], text)}"'


def check_quotes(client: MilvusClient, ids: Sequence[str], doing: str) -> None:
    """Reject ids that this Milvus would not write or delete as they are.

    Milvus Lite 2 puts ids into a statement of SQL between single quotes, unescaped: one with a quote in it fails at
    best, and deletes other rows at worst.

    Args:
        doing: what is about to be done, such as "delete".

    Raises:
        StoreError: names the first.
    """
    odd = [key for key in ids if "'" in key]
    if odd and probe(client).kind == "lite":
        raise StoreError(
            f"Milvus Lite cannot {doing} the row {odd[0]!r}: its id holds a single quote. Use another id, or a Milvus "
            "server"
        )
