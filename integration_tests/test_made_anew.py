"""A collection that is dropped and made anew under its name, or behind its alias, while a program has it open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pymilvus import MilvusClient

from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import StoreError
from milvus_fghash.migration.alias_client import AliasClient
from milvus_fghash.milvus import aliases
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.search.search import SearchParams, search_file
from tests.helpers.small_bundle import write_small_bundle

STRONG = SearchParams(consistency="Strong")


def test_a_photo_is_no_bit_from_itself(
    client: MilvusClient, dropped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, alias, other = tmp_path / "photo.png", f"{dropped}_alias", f"{dropped}_other"
    Image.new("RGB", (16, 16), "teal").save(photo)
    encoders = [Encoder.open(write_small_bundle(tmp_path / "bundles" / f"{n}", bits=48, seed=n)) for n in (1, 2)]

    def fill(name: str, encoder: Encoder) -> HashCollection:
        made = HashCollection.create(client, name, encoder.bundle.manifest)
        made.upsert(Rows(("photo",), encoder.encode_image(photo), ("a.png",), ("",), ("",), ({},)))
        return made

    def refill(encoder: Encoder) -> None:
        aliases.point(client, alias, other)
        HashCollection.drop(client, dropped)
        fill(dropped, encoder)
        aliases.point(client, alias, dropped)

    opened = fill(dropped, encoders[0])
    fill(other, encoders[1])
    try:
        aliases.point(client, alias, dropped)
        following = [AliasClient(client, name, tmp_path / "bundles") for name in (dropped, alias)]
        for encoder in (encoders[0], encoders[1], encoders[1], encoders[0]):
            refill(encoder)
            for one in following:
                collection, now = one.current()
                assert (collection.name, now.bundle.path) == (dropped, encoder.bundle.path)
                assert [hit.distance for hit in search_file(collection, now, photo, STRONG).hits] == [0]
                assert one.current() is one.current()
        with pytest.raises(StoreError, match="was filled by"):
            search_file(opened, encoders[1], photo)
        with pytest.raises(StoreError, match="dropped and created again"):
            opened.upsert(Rows(("p",), encoders[0].encode_image(photo), ("a.png",), ("",), ("",), ({},)))
        asked: list[str] = []
        describe = client.describe_collection

        def watched(name: str, **more: Any) -> Any:
            asked.append(name)
            return describe(name, **more)

        monkeypatch.setattr(client, "describe_collection", watched)
        one.current()
        assert len(asked) == 1
    finally:
        aliases.remove(client, alias)
        client.drop_collection(other)
