"""Every row of a collection, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from milvus_fghash.serving.driver import MilvusClient
from milvus_fghash.serving.milvus_calls import milvus_call


def query_pages(
    client: MilvusClient, name: str, columns: Sequence[str], batch: int, filter: str, timeout: float
) -> Iterator[list[dict[str, Any]]]:
    """Some columns of the rows that fit ``filter``, in no particular order, as Milvus gives them.

    Raises:
        StoreError: when Milvus refuses.
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
