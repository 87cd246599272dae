"""Codes of every kind of length, written to Milvus Lite and searched: distances as counted without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.core.code_length import MAX_BITS
from milvus_fghash.core.codes import code_bytes, hamming, to_hex
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.search.search import SearchParams, search_codes, search_hex
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_rows import rows_of


@pytest.mark.parametrize("bits", [8, 12, 256, 257, 1000, MAX_BITS])
def test_a_search_gives_the_distances_of_the_codes(bits: int, lite: MilvusClient, tmp_path: Path) -> None:
    bundle = read_bundle(write_small_bundle(tmp_path / "bundle", bits))
    collection = HashCollection.create(lite, f"of_{bits}", bundle.manifest, code_hex=True)
    rows, asked = rows_of(40, bits), rows_of(3, bits, seed=1).codes
    collection.upsert(rows)
    reopened = HashCollection.open(lite, f"of_{bits}")
    assert reopened.bits == bits
    expected = hamming(asked, rows.codes)
    for number, found in enumerate(search_codes(reopened, asked, SearchParams(k=40))):
        assert {hit.id: hit.distance for hit in found.hits} == dict(zip(rows.ids, expected[number], strict=True))
    (text,) = to_hex(rows.codes[7:8])
    assert len(text) == 2 * code_bytes(bits)
    nearest = search_hex(reopened, text, SearchParams(k=1)).hits[0]
    assert (nearest.id, nearest.distance) == (rows.ids[7], 0) or bits == 8  # 8 bits repeat among 40 rows
    stored = next(reopened.scan())
    np.testing.assert_array_equal(dict(zip(stored.ids, stored.codes.tolist(), strict=True))[rows.ids[7]], rows.codes[7])
