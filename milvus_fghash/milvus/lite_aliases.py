"""Aliases in a Milvus Lite file, which does not support them: a table in a small collection of the same file.

The table moves with the file. Each row holds a complete table, and the row with the highest number is valid: a single
insert changes the table, so that a crash at any time leaves a complete one.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Final

from milvus_fghash.milvus.errors import TIMEOUT, milvus_call
from milvus_fghash.milvus.pymilvus_compat import DataType, MilvusClient

COLLECTION: Final = "milvus_fghash_aliases"


def read(client: MilvusClient) -> dict[str, str]:
    """Alias -> collection, by name.

    Raises:
        StoreError: if Milvus Lite fails.
    """
    return _newest(client)[1]


def write(client: MilvusClient, aliases: dict[str, str]) -> None:
    """Replace the table.

    Raises:
        StoreError: if Milvus Lite fails.
    """
    number, _ = _newest(client)
    with milvus_call("cannot write the table of aliases"):
        if not client.has_collection(COLLECTION, timeout=TIMEOUT):
            _create(client)
        row = {"number": number + 1, "aliases": aliases, "unused": b"\0"}
        client.insert(COLLECTION, row, timeout=TIMEOUT)
        client.delete(COLLECTION, filter=f"number <= {number}", timeout=TIMEOUT)


def _newest(client: MilvusClient) -> tuple[int, dict[str, str]]:
    with milvus_call("cannot read the table of aliases"):
        if not client.has_collection(COLLECTION, timeout=TIMEOUT):
            return 0, {}
        rows = client.query(COLLECTION, "number >= 0", ["number", "aliases"], timeout=TIMEOUT)
    number, known = max(((int(row["number"]), row["aliases"]) for row in rows), default=(0, {}), key=itemgetter(0))
    return number, dict(sorted(known.items()))


def _create(client: MilvusClient) -> None:
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("number", DataType.INT64, is_primary=True)
    schema.add_field("aliases", DataType.JSON)
    schema.add_field("unused", DataType.BINARY_VECTOR, dim=8)  # a collection must have a vector field
    client.create_collection(COLLECTION, schema=schema, timeout=TIMEOUT)  # never searched, so no index
