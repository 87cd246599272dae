"""Every row of a collection, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from milvus_fghash.milvus.errors import milvus_call
from milvus_fghash.milvus.pymilvus_compat import MilvusClient


def query_pages(
    client: MilvusClient, name: str, columns: Sequence[str], batch: int, filter: str, timeout: float
) -> Iterator[list[dict[str, Any]]]:
    """Some columns of the rows that fit ``filter``, in no particular order, as Milvus gives them.

    Raises:
        StoreError: when Milvus rejects.
    """
    with milvus_call(f"cannot read {name}"):
        pages = client.query_iterator(
            name, batch, filter=filter, output_fields=list(columns), consistency_level="Strong", timeout=timeout
        )
    try:
        while True:
            with milvus_call(f"cannot read {name}"):
                page = pages.next()
            if not page:
                return
            yield page
    finally:
        pages.close()
