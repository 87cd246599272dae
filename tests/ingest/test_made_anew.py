"""A collection that is dropped and made anew under its name, while a program has the first one open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from pymilvus import MilvusClient

from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import StoreBusy, StoreError
from milvus_fghash.migration.alias_client import AliasClient
from milvus_fghash.milvus import lite_aliases
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.milvus.schema import CollectionMetadata
from milvus_fghash.search.search import search_file
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_rows import rows_of

pytestmark = pytest.mark.full


@dataclass
class Bench:
    """Two models of 48 bits, and one photo."""

    client: MilvusClient
    name: str
    bundles: Path
    photo: Path

    def encoder(self, seed: int) -> Encoder:
        return Encoder.open(self.bundles / str(seed))

    def fill(self, seed: int) -> tuple[HashCollection, Encoder]:
        """A new collection, in place of the one before, with the photo in it."""
        if self.client.has_collection(self.name):
            HashCollection.drop(self.client, self.name)
        encoder = self.encoder(seed)
        made = HashCollection.create(self.client, self.name, encoder.bundle.manifest)
        made.upsert(Rows(("photo",), encoder.encode_image(self.photo), ("a.png",), ("",), ("",), ({},)))
        return made, encoder

    def following(self, name: str = "") -> AliasClient:
        return AliasClient(self.client, name or self.name, self.bundles)

    def distance(self, following: AliasClient) -> int:
        """Of the photo from itself."""
        return search_file(*following.current(), self.photo).hits[0].distance


@pytest.fixture
def bench(lite: MilvusClient, new_name: str, tmp_path: Path) -> Iterator[Bench]:
    for seed in (1, 2):
        write_small_bundle(tmp_path / "bundles" / str(seed), bits=48, seed=seed)
    Image.new("RGB", (16, 16), "teal").save(tmp_path / "photo.png")
    yield Bench(lite, new_name, tmp_path / "bundles", tmp_path / "photo.png")
    lite_aliases.write(lite, {})


def test_following_takes_the_bundle_of_the_new_one(bench: Bench) -> None:
    bench.fill(1)
    following = bench.following()
    assert bench.distance(following) == 0
    assert following.current() is following.current(), "opened once"
    bench.fill(2)
    assert bench.distance(following) == 0, "with the old bundle it would be some 20 bits"
    bench.fill(2)
    assert bench.distance(following) == 0


def test_behind_an_alias_too(bench: Bench) -> None:
    alias = f"{bench.name}_alias"
    bench.fill(1)
    lite_aliases.write(bench.client, {alias: bench.name})
    following = bench.following(alias)
    assert bench.distance(following) == 0
    lite_aliases.write(bench.client, {})  # what an alias stands for is not dropped
    bench.fill(2)
    lite_aliases.write(bench.client, {alias: bench.name})
    assert bench.distance(following) == 0


def test_what_was_open_takes_no_photo_of_the_old_model(bench: Bench) -> None:
    opened, encoder = bench.fill(1)
    bench.fill(2)
    with pytest.raises(StoreError, match=r"was filled by another state of the same training run"):
        search_file(opened, encoder, bench.photo)
    with pytest.raises(StoreError, match="filled by another"):
        opened.check_model(encoder.bundle.manifest)
    opened.check_model(bench.encoder(2).bundle.manifest)


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_written_into_another_than_was_opened(bench: Bench, seed: int) -> None:
    opened, _ = bench.fill(1)
    opened.upsert(rows_of(1, 48))
    made, _ = bench.fill(seed)
    with pytest.raises(StoreError, match=r"was dropped and created again since it was opened; open it again$"):
        opened.upsert(rows_of(2, 48))
    assert made.count() == 1


def test_collections_of_earlier_versions_go_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their metadata has no collection_uid."""
    of = CollectionMetadata.of
    monkeypatch.setattr(
        CollectionMetadata, "of", lambda manifest: of(manifest).model_copy(update={"collection_uid": ""})
    )
    opened, encoder = bench.fill(1)
    following = bench.following()
    assert bench.distance(following) == 0
    assert following.current() is following.current()
    assert opened.upsert(rows_of(2, 48)) == 2
    bench.fill(2)
    with pytest.raises(StoreError, match="filled by another"):
        search_file(opened, encoder, bench.photo)
    assert bench.distance(following) == 0


def test_one_that_is_gone_is_said_to_be_gone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, encoder = bench.fill(1)
    following = bench.following()
    following.current()
    HashCollection.drop(bench.client, bench.name)
    with pytest.raises(StoreError, match=rf"^there is no collection {bench.name}\."):
        following.current()
    with pytest.raises(StoreError, match=rf"^cannot describe the collection {bench.name}: "):
        search_file(opened, encoder, bench.photo)
    bench.fill(2)
    assert bench.distance(following) == 0

    def busy(self: HashCollection, name: str) -> bool:
        raise StoreBusy("gone for now")

    monkeypatch.setattr(HashCollection, "refers_to_this", busy)
    with pytest.raises(StoreBusy, match="gone for now"):
        following.current()
