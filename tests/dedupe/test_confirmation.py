"""Near groups are candidates: what their photos do not confirm is never deleted, whatever the codes say."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pymilvus import MilvusClient

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.core.perceptual_hash import MAX_COPY_DISTANCE, phash_distance, phash_from_hex
from milvus_fghash.dedupe.near_search import delete_copies, find_duplicates
from milvus_fghash.dedupe.report import Duplicates
from milvus_fghash.errors import ConfigError, TooManyDeleted
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.state.journal import DELETED, Journal, JournalEntry
from tests.helpers.drawn_scenes import BLUE, GREEN, RED, as_jpeg, scene, shirt
from tests.helpers.small_catalog import Catalog

pytestmark = pytest.mark.full

FOUR = (0x0F, 0x1F, 0x0F << 32, 0)
"""Perceptual hashes: the first two are 1 bit apart, the third 8 bits from the first; the last is not known."""


def alike(n: int, phashes: tuple[int, ...]) -> Rows:
    """Rows of one code, as a model that learned classes gives all photos of one class."""
    ids = tuple(f"{number:04}" for number in range(n))
    return Rows(ids, np.zeros((n, 2), np.uint8), ids, ("robin",) * n, ids, ({},) * n, phashes=phashes)


@pytest.fixture
def empty(lite: MilvusClient, bundle: Path, new_name: str) -> HashCollection:
    return HashCollection.create(lite, new_name, read_bundle(bundle).manifest)


def ids(collection: HashCollection) -> list[str]:
    return sorted(key for page in collection.pages(["id"]) for key in (one["id"] for one in page))


def test_only_confirmed_pairs_go(empty: HashCollection) -> None:
    empty.upsert(alike(4, FOUR))
    found = find_duplicates(empty, 0)
    (group,) = found.groups
    assert [one.phash for one in group.members] == [f"{phash:016x}" if phash else "" for phash in FOUR]
    assert found.near.model_dump() == {"groups": 1, "rows": 4, "redundant": 3, "confirmed": 1}
    assert (group.confirmed, found.n_without_phash, found.confirmed_within) == (1, 1, MAX_COPY_DISTANCE)
    assert delete_copies(empty, found, ["near"], at_most=1) == 1
    assert ids(empty) == ["0000", "0002", "0003"]
    assert delete_copies(empty, find_duplicates(empty, 0), ["near"], at_most=1) == 0


def test_copies_are_found_whatever_the_codes(empty: HashCollection) -> None:
    """Codes that are far apart, as a method that tears copies apart makes them, and rows of one code."""
    codes = np.array([[0, 0], [0xFF, 0xF0], [0, 0], [0x0F, 0]], np.uint8)
    empty.upsert(replace(alike(4, FOUR), codes=codes))
    found = find_duplicates(empty)
    assert [[one.id for one in group.members] for group in found.groups] == [["0000", "0001"]]
    assert (found.max_distance, found.n_searched, found.n_without_phash, found.note) == (None, 0, 1, "")
    assert (found.near.confirmed, found.groups[0].distance) == (1, 12)
    wider = find_duplicates(empty, confirm_within=8)
    assert [[one.id for one in group.members] for group in wider.groups] == [["0000", "0001", "0002"]]
    assert find_duplicates(empty, earlier=wider).confirmed_within == 8


@pytest.mark.parametrize(("within", "left"), [(0, 4), (1, 3), (7, 3), (8, 3), (9, 2), (64, 2)])
def test_the_distance_of_confirmed_copies_is_a_parameter(empty: HashCollection, within: int, left: int) -> None:
    empty.upsert(alike(4, FOUR))
    delete_copies(empty, find_duplicates(empty, 0, confirm_within=within), ["near"], "last", at_most=1)
    assert len(ids(empty)) == left
    with pytest.raises(ConfigError, match="may differ in 0 to 64 bits, got 65"):
        find_duplicates(empty, confirm_within=65)


def test_products_that_differ_in_colour_only_stay(catalog: Catalog) -> None:
    """Of three shirts, a photo, and the photo with red and blue swapped, the shirt that was saved again goes."""
    red, green, blue = scene(1).split()
    photos = [
        *(shirt(colour) for colour in (RED, GREEN, BLUE)),
        scene(1),
        Image.merge("RGB", (blue, green, red)),
        shirt(GREEN),
    ]
    for number, image in enumerate(photos):
        (catalog.photos / f"{number:02}.png").write_bytes(as_jpeg(image, 90 - number))
    catalog.ingest()
    found = find_duplicates(catalog.collection, 12)
    (group,) = [group for group in found.groups if group.kind == "near"]
    assert {f"{number:02}.png" for number in range(6)} <= {one.path for one in group.members}
    assert (found.near.confirmed, delete_copies(catalog.collection, found, ["near"])) == (1, 1)
    (gone,) = {one.path for one in group.members} - {
        path for page in catalog.collection.pages(["path"]) for path in (one["path"] for one in page)
    }
    assert gone == "05.png"


def test_a_collection_of_class_codes_keeps_its_photos(empty: HashCollection) -> None:
    """300 different photos of one class have one code. Deleting what is near took 299 of them."""
    rng = np.random.default_rng(0)
    empty.upsert(alike(300, tuple(map(int, rng.integers(-(2**63), 2**63, 300)))))
    assert find_duplicates(empty).groups == ()
    found = find_duplicates(empty, 0)
    assert (found.near.redundant, found.near.confirmed) == (299, 0)
    assert "the codes do not distinguish these photos" in found.note
    assert delete_copies(empty, found, ["exact", "near"]) == 0
    assert empty.count() == 300


def test_nothing_is_deleted_beyond_the_limit(empty: HashCollection, tmp_path: Path) -> None:
    empty.upsert(alike(40, (5,) * 5 + tuple(int(n) for n in np.random.default_rng(0).integers(2**60, 2**63, 35))))
    found = find_duplicates(empty)
    message = r"^4 of 40 rows of \w+ would be deleted, more than the allowed fraction 0.09"
    with closing(Journal.open(tmp_path, empty.uid)) as journal:
        journal.put([JournalEntry(one.id, one.path, "1 1", one.content_sha) for one in found.groups[0].members])
        with pytest.raises(TooManyDeleted, match=message):
            delete_copies(empty, found, ["near"], at_most=0.09, journal=journal)
        assert list(journal.entries(DELETED)) == []
        assert empty.count() == 40
        assert delete_copies(empty, found, ["near"], journal=journal) == 4  # a tenth, which is allowed
        assert len(list(journal.entries(DELETED))) == 4
    assert empty.count() == 36


@pytest.fixture
def old(catalog: Catalog, new_name: str) -> Catalog:
    """A catalog made before there were perceptual hashes: of all its codes, which a plain one has, one is near another.

    00 is a scene, 01 the same at a lower quality, 02 another scene.
    """
    client, manifest = catalog.collection.client, catalog.encoder.bundle.manifest
    catalog.collection = HashCollection.create(client, f"{new_name}_old", manifest, phash=False)
    for number, raw in enumerate((as_jpeg(scene(0)), as_jpeg(scene(0), 40), as_jpeg(scene(5)))):
        (catalog.photos / f"{number:02}.png").write_bytes(raw)
    catalog.ingest()
    return catalog


def hashed(found: Duplicates) -> Mapping[str, str]:
    return {one.path: one.phash for group in found.groups for one in group.members}


def test_where_the_collection_keeps_none_photos_are_read(old: Catalog, tmp_path: Path) -> None:
    blind = find_duplicates(old.collection, 12)
    assert (blind.near.redundant, blind.near.confirmed, blind.n_without_phash) == (39, 0, 40)
    calls: list[tuple[int, int]] = []
    seen = find_duplicates(
        old.collection, 12, photos=[tmp_path, old.photos], progress=lambda done, total: calls.append((done, total))
    )
    assert {path for path, phash in hashed(seen).items() if phash} == {"00.png", "01.png", "02.png"}
    assert (40, 40) in calls
    assert (seen.near.confirmed, seen.n_without_phash) == (1, 37)  # the others are of one colour
    assert delete_copies(old.collection, seen, ["near"]) == 1
    assert old.collection.count() == 39


def test_photos_are_read_once(old: Catalog, tmp_path: Path) -> None:
    """An earlier result has the hashes of photos that were read, also those of photos without structure."""
    first = find_duplicates(old.collection, photos=[old.photos])
    assert (first.max_distance, len(first.phashes), sum(map(bool, first.phashes.values()))) == (None, 40, 3)
    assert [[one.path for one in group.members] for group in first.groups] == [["00.png", "01.png"]]
    first.write(tmp_path / "groups.json")
    shutil.rmtree(old.photos)
    again = find_duplicates(old.collection, earlier=Duplicates.read(tmp_path / "groups.json"), photos=[old.photos])
    assert (again.groups, again.phashes) == (first.groups, first.phashes)
    assert find_duplicates(old.collection, photos=[old.photos]).n_without_phash == 40


def test_a_photo_that_has_changed_since_confirms_nothing(old: Catalog, tmp_path: Path) -> None:
    (old.photos / "01.png").write_bytes((old.photos / "00.png").read_bytes())
    shutil.copy(old.photos / "02.png", tmp_path / "02.png")
    (old.photos / "02.png").unlink()
    found = find_duplicates(old.collection, 12, photos=[old.photos])
    assert {path for path, phash in hashed(found).items() if phash} == {"00.png"}
    assert (found.near.confirmed, found.n_without_phash) == (0, 39)
    both = find_duplicates(old.collection, 12, photos=[old.photos, tmp_path])
    assert {path for path, phash in hashed(both).items() if phash} == {"00.png", "02.png"}


def test_the_hash_that_is_kept_is_that_which_is_read(old: Catalog, new_name: str) -> None:
    found = find_duplicates(old.collection, 12, photos=[old.photos])
    manifest = old.encoder.bundle.manifest
    old.collection = HashCollection.create(old.collection.client, f"{new_name}_new", manifest)
    old.ingest()
    kept = hashed(find_duplicates(old.collection, 12))
    for path, read in hashed(found).items():  # decoded at another scale, that of the bundle
        assert (phash_distance(phash_from_hex(read), phash_from_hex(kept[path])) or 0) <= 2
        assert bool(read) == bool(kept[path])
