"""Rows that need no photos."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.codes import pack
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows, photo_id


def rows_of(n: int, bits: int, seed: int = 0, **columns: Any) -> Rows:
    """Rows of random codes; a column is of one value, or has one for each row."""
    paths = tuple(f"{number}.jpg" for number in range(n))
    ids = tuple(photo_id("", path) for path in paths)
    codes = pack(np.random.default_rng(seed).standard_normal((n, bits)))
    rows = Rows(ids, codes, paths, ("",) * n, tuple(f"{number:064}" for number in range(n)), ({},) * n)
    each: dict[str, Any] = {
        name: value if isinstance(value, tuple) else (value,) * n for name, value in columns.items()
    }
    return replace(rows, **each)


def records_of(
    collection: HashCollection, rows: Rows, embeddings: NDArray[np.float32] | None = None
) -> list[dict[str, Any]]:
    """Rows one by one, as `MilvusClient.insert` takes them."""
    values = collection.field_values(rows, embeddings)
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
