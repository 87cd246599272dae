"""A catalog under a new model, on Milvus Lite."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.datasets.read import read
from milvus_fghash.datasets.tables.columns import Column
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import BundleError, ConfigError, DataError, Inconsistent, Stopped, StoreError
from milvus_fghash.ingest.delete import delete_ids
from milvus_fghash.ingest.options import RunContext
from milvus_fghash.migration import model_comparison
from milvus_fghash.migration.alias_client import AliasClient, bundle_for
from milvus_fghash.migration.promote import AliasChange, promote
from milvus_fghash.migration.reindex import Reindexed, Sample, new_name, open_beside, reindex
from milvus_fghash.milvus import lite_aliases
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import photo_id
from milvus_fghash.state.journal import Journal
from milvus_fghash.state.migration_record import ReindexRecord, record_file
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_catalog import EIGHT, Catalog, N, paint

pytestmark = pytest.mark.full


@dataclass
class Change:
    """A catalog that is in, and another model of it."""

    catalog: Catalog
    encoder: Encoder
    name: str
    folder: Path

    def run(self, **more: Any) -> Reindexed:
        old = self.catalog.collection
        new = open_beside(old.client, old, self.name, self.encoder)
        dataset = read("folder", self.catalog.photos)
        folders = (self.catalog.folder, self.folder)
        return reindex(self.encoder, dataset, old, new, folders, RunContext(options=EIGHT, **more), Sample(20))

    @property
    def new(self) -> HashCollection:
        return HashCollection.open(self.catalog.collection.client, self.name)

    def promote(self, alias: str, **more: Any) -> AliasChange:
        client = self.catalog.collection.client
        return promote(client, alias, self.name, lambda name: self.folder if name == self.name else self.catalog.folder,
                       **more)  # fmt: skip


@pytest.fixture
def change(catalog: Catalog, tmp_path: Path) -> Iterator[Change]:
    encoder = Encoder.open(write_small_bundle(tmp_path / "bundles" / "new", bits=24, seed=7))
    yield Change(catalog, encoder, f"{catalog.collection.name}_new", tmp_path / "new journal")
    lite_aliases.write(catalog.collection.client, {})


@pytest.fixture
def alias(change: Change) -> str:
    return f"{change.catalog.collection.name}_alias"


def test_the_new_collection_holds_the_same_photos_and_is_of_the_same_kind(change: Change, alias: str) -> None:
    change.catalog.ingest()
    before = change.catalog.contents()
    done = change.run()
    assert (done.ingest.stored, done.ingest.rows_in_collection, done.missing.count) == (N, N, 0)
    assert done.verification.is_consistent
    assert done.comparison == "no row of both versions has a label"
    new = change.new
    assert (new.bits, new.metadata.fingerprint) == (24, change.encoder.bundle.manifest.fingerprint)
    assert (new.index, new.has_code_hex, new.embedding_dim) == ("BIN_FLAT", False, None)
    assert change.catalog.contents() == before, "the old one stays as it is"
    again = change.run()
    assert (again.ingest.stored, again.ingest.unchanged) == (0, N)
    moved = change.promote(alias)
    assert (moved.before, moved.collection, moved.previous) == (done.old, done.new, (done.old,))


def test_the_kind_is_carried_over(catalog: Catalog, tmp_path: Path) -> None:
    client, name = catalog.collection.client, f"{catalog.collection.name}_kind"
    outputs = ("logits", "codes", "embedding")
    first = read_bundle(write_small_bundle(tmp_path / "first", seed=1, outputs=outputs)).manifest
    columns = (Column("price", "double"), Column("brand", "text"))
    old = HashCollection.create(client, name, first, code_hex=True, embedding_dim=3, columns=columns)
    with pytest.raises(ConfigError, match=r"has embeddings, but .* does not compute them"):
        open_beside(client, old, f"{name}_2", Encoder.open(write_small_bundle(tmp_path / "without", seed=2)))
    assert not client.has_collection(f"{name}_2")
    second = Encoder.open(write_small_bundle(tmp_path / "with", seed=2, outputs=outputs))
    new = open_beside(client, old, f"{name}_2", second)
    assert (new.has_code_hex, new.embedding_dim, new.columns) == (True, 3, columns)


def test_the_same_model_and_the_old_name_are_rejected(change: Change) -> None:
    old = change.catalog.collection
    with pytest.raises(ConfigError, match="has codes of this bundle already"):
        open_beside(old.client, old, "another", change.catalog.encoder)
    with pytest.raises(ConfigError, match="must have another name than the old one"):
        open_beside(old.client, old, old.name, change.encoder)
    change.run()
    third = Encoder.open(write_small_bundle(change.folder.with_name("third"), seed=8))
    with pytest.raises(StoreError, match="was filled by another"):
        open_beside(old.client, old, change.name, third)


def test_names_of_new_collections(change: Change) -> None:
    old, manifest = change.catalog.collection.metadata, change.encoder.bundle.manifest
    manifest = manifest.model_copy(update={"fingerprint": "b" * 64})
    old = old.model_copy(update={"fingerprint": "a" * 64})
    assert new_name("birds", old, manifest) == "birds_" + "b" * 12
    assert new_name("birds_" + "a" * 12, old, manifest) == "birds_" + "b" * 12
    assert new_name("birds_" + "c" * 12, old, manifest) == f"birds_{'c' * 12}_{'b' * 12}"
    with pytest.raises(ConfigError, match="at most 255"):
        new_name("b" * 250, old, manifest)


def test_rows_without_a_photo_are_named_and_must_be_allowed(change: Change, alias: str) -> None:
    catalog = change.catalog
    catalog.ingest()
    for name in ("03.png", "17.png"):
        (catalog.photos / name).unlink()
    assert change.run().missing == model_comparison.MissingRows(2, ("03.png", "17.png"), {"": 2}, 0)
    with pytest.raises(Inconsistent, match=r"2 rows of .* are not in .*\(none\); such as 03.png\), 1 are allowed"):
        change.promote(alias, max_missing=1)
    moved = change.promote(alias, max_missing=2)
    assert (moved.rows_before, moved.rows) == (N, N - 2)
    assert moved.missing is not None
    assert moved.missing.count == 2


def test_rows_of_other_namespaces_are_named_and_ingested_by_another_run(change: Change, alias: str) -> None:
    catalog = change.catalog
    catalog.ingest()
    catalog.ingest(namespace="shop")
    assert change.run().missing.namespaces == {"shop": N}
    assert change.run(namespace="shop").missing.count == 0
    assert change.promote(alias).rows == 2 * N


def test_photos_that_came_meanwhile_are_caught_up_with(change: Change, alias: str) -> None:
    catalog = change.catalog
    catalog.ingest()
    change.run()
    paint(catalog.photos / "late.png", "red")
    paint(catalog.photos / "05.png", "blue")
    catalog.ingest()
    with pytest.raises(Inconsistent, match=r"1 rows of .* such as late.png"):
        change.promote(alias)
    done = change.run()
    assert (done.ingest.stored, done.missing.count, done.missing.changed) == (2, 0, 0)
    change.promote(alias)


def test_changed_photos_are_reported(change: Change, alias: str) -> None:
    change.catalog.ingest()
    change.run()
    paint(change.catalog.photos / "05.png", "blue")
    change.catalog.ingest()
    messages: list[str] = []
    change.promote(alias, notify=messages.append)
    assert "the contents of 1 rows differ" in messages[0]


def test_what_was_deleted_on_purpose_stays_out(change: Change) -> None:
    catalog = change.catalog
    catalog.ingest()
    gone, later = photo_id("", "03.png"), photo_id("", "04.png")
    with catalog.open_journal() as journal:
        delete_ids(catalog.collection, [gone], yes=True, journal=journal)
    done = change.run()
    assert (done.ingest.stored, done.ingest.deleted, done.missing.count) == (N - 1, 1, 0)
    assert done.verification.is_consistent
    with catalog.open_journal() as journal:  # deleted after the first run, and taken back
        delete_ids(catalog.collection, [later], yes=True, journal=journal)
    assert not len(change.new.get([gone]))
    assert len(change.new.get([later]))
    done = change.run()
    assert (done.ingest.stored, done.ingest.deleted, done.missing.count) == (0, 2, 0)
    assert not len(change.new.get([later]))
    catalog.ingest(replace(EIGHT, retry_rejected=True))
    done = change.run()
    assert (done.ingest.stored, done.ingest.deleted, done.missing.count) == (2, 0, 0)


def test_a_new_content_of_a_deleted_photo_goes_in(change: Change) -> None:
    catalog = change.catalog
    catalog.ingest()
    with catalog.open_journal() as journal:
        delete_ids(catalog.collection, [photo_id("", "03.png")], yes=True, journal=journal)
    paint(catalog.photos / "03.png", "red")
    assert change.run().ingest.stored == N
    assert change.run().ingest.unchanged == N, "the new content was never deleted"


def test_a_run_that_ends_early_is_not_served(change: Change, alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change.catalog.ingest()
    calls = itertools.count()
    write = HashCollection.write

    def stopping(self: HashCollection, *args: Any) -> None:
        if next(calls) == 2:
            raise StoreError("no more")
        write(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(HashCollection, "write", stopping)
        with pytest.raises(StoreError, match="no more"):
            change.run()
    assert change.new.count() == 16
    with pytest.raises(Inconsistent, match="was not verified"):
        change.promote(alias)
    assert change.run().ingest.unchanged == 16
    change.promote(alias)


def test_a_later_run_that_is_stopped_takes_the_word_back(change: Change, alias: str) -> None:
    change.catalog.ingest()
    change.run()
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        change.run(stop=stop)
    with pytest.raises(Inconsistent, match="was not verified"):
        change.promote(alias)
    change.promote(alias, unverified=True)


def test_a_previous_collection_needs_no_verification(change: Change, alias: str) -> None:
    client, old = change.catalog.collection.client, change.catalog.collection.name
    change.catalog.ingest()
    change.run()
    change.promote(alias)
    moved = promote(client, alias, old, lambda name: change.folder)
    assert (moved.collection, moved.before, moved.previous) == (old, change.name, (change.name,))


def test_no_run_writes_while_an_alias_moves(change: Change, alias: str) -> None:
    change.catalog.ingest()
    change.run()
    with change.catalog.open_journal(), pytest.raises(ConfigError, match="another process has the journal"):
        change.promote(alias)
    with Journal.open_if_exists(change.folder, change.new.uid), pytest.raises(ConfigError, match="another process"):
        change.promote(alias)
    change.promote(alias)


def test_a_record_that_cannot_be_read(change: Change, alias: str) -> None:
    change.catalog.ingest()
    change.run()
    uid = change.new.uid
    file = record_file(change.folder, uid)
    assert ReindexRecord.read(change.folder, "nobody") is None
    for text in ("{", "[]", json.dumps({**json.loads(file.read_text()), "wholly": True})):
        file.write_text(text)
        with pytest.raises(DataError, match="run reindex again to write it anew"):
            change.promote(alias)


def test_following_takes_the_bundle_that_fits(change: Change, alias: str, bundle: Path, tmp_path: Path) -> None:
    catalog, client = change.catalog, change.catalog.collection.client
    catalog.ingest()
    change.run()
    promote(client, alias, catalog.collection.name, lambda name: catalog.folder)
    following = AliasClient(client, alias, change.encoder.bundle.path.parent)
    with pytest.raises(BundleError, match=r"none of the bundles in .* made the codes"):
        following.current()
    write_small_bundle(change.encoder.bundle.path.with_name("old"), bits=12, seed=0)
    (tmp_path / "bundles" / "broken").mkdir()
    (tmp_path / "bundles" / "broken" / "bundle.json").write_text("{")
    collection, encoder = first = following.current()
    assert (collection.name, encoder.bits) == (catalog.collection.name, 12)
    assert following.current() is first, "opened once"
    change.promote(alias)
    collection, encoder = following.current()
    assert (collection.name, encoder.bits) == (change.name, 24)
    assert first[0].count() == N, "what was open stays right"
    assert bundle_for(first[0], change.encoder.bundle.path) == change.encoder.bundle.path, "what is named is taken"
    with pytest.raises(BundleError, match="is neither a bundle nor a folder of bundles"):
        bundle_for(first[0], catalog.photos)
