"""Own ids of photos on a real server and on Milvus Lite."""

from __future__ import annotations

import numpy as np
import pytest
from pymilvus import MilvusClient

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.core.codes import code_bytes
from milvus_fghash.errors import StoreError
from milvus_fghash.ingest.delete import Deletion, delete_named
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.own_ids import row_ids
from milvus_fghash.milvus.rows import Rows, photo_id
from tests.helpers.commands import GOLDEN

OWN = ["SKU-1001", "1001", 'a"b', "it's", "back\\slash", "ü€", "\U0001f600", "%_", "x" * 300, "tab\t\x01", "\\u0041"]


@pytest.mark.parametrize("client", ["server", "lite"], indirect=True)
def test_own_ids_name_their_rows(client: MilvusClient, dropped: str) -> None:
    collection = HashCollection.create(client, dropped, read_bundle(GOLDEN).manifest)
    paths = tuple(f"{number}.jpg" for number in range(2 * len(OWN)))
    metas = tuple({"id": own, **space} for space in ({}, {"namespace": "shop"}) for own in OWN)
    codes = np.zeros((len(paths), code_bytes(collection.bits)), np.uint8)
    ids = tuple(photo_id("", path) for path in paths)
    blank = ("",) * len(paths)
    collection.upsert(Rows(ids, codes, paths, blank, blank, metas))
    assert row_ids(collection, [*OWN, "1002"], "shop") == dict(zip(OWN, ids[len(OWN) :], strict=True))
    with pytest.raises(StoreError, match="2 rows"):
        row_ids(collection, ["1001"])
    asked = ["1001", ids[1], "nobody"]
    assert delete_named(collection, asked, True, namespace="shop") == Deletion(dropped, 2, 1, 2, len(paths) - 2)
    assert row_ids(collection, ["1001"]) == {}
