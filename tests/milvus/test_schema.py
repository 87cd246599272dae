"""The metadata in the description of a collection."""

from __future__ import annotations

import json

import pytest

from milvus_fghash.errors import StoreError
from milvus_fghash.milvus.schema import CollectionMetadata, read_metadata, row_schema

VALUES = {"format": 1, "method": "lsh", "lineage": "ab", "fingerprint": "cd", "bits": 12, "bit_order": "big"}


@pytest.mark.parametrize("key", ["born", "collection_uid"])
def test_the_uid_is_read_under_the_old_key_and_the_new_one(key: str) -> None:
    metadata = read_metadata("photos", json.dumps({"milvus_fghash": {**VALUES, key: "0af3"}}))
    assert metadata == CollectionMetadata(method="lsh", lineage="ab", fingerprint="cd", bits=12, collection_uid="0af3")


def test_the_description_keeps_its_keys_for_earlier_versions() -> None:
    metadata = CollectionMetadata(method="lsh", lineage="ab", fingerprint="cd", bits=12, collection_uid="0af3")
    description = row_schema(metadata, code_hex=False, embedding_dim=None).description
    assert json.loads(description) == {"milvus_fghash": {**VALUES, "born": "0af3"}}
    assert read_metadata("photos", description) == metadata


def test_metadata_without_a_uid_is_read() -> None:
    metadata = read_metadata("photos", json.dumps({"milvus_fghash": VALUES}))
    assert metadata is not None
    assert metadata.collection_uid == ""


def test_descriptions_of_others_and_unreadable_ones() -> None:
    assert read_metadata("photos", "birds of 2019") is None
    with pytest.raises(StoreError, match=r"the description of the collection photos: .*newer milvus-fghash"):
        read_metadata("photos", json.dumps({"milvus_fghash": {**VALUES, "format": 2}}))
