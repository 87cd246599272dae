"""The public object over collection, encoder and journal, on Milvus Lite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import milvus_fghash as fg
from milvus_fghash.datasets.in_memory import ImageLike
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_catalog import HERE, N, paint

pytestmark = pytest.mark.full


def test_a_second_ingest_writes_nothing_and_a_changed_photo_is_written_again(catalog: fg.Catalog, photos: Path) -> None:
    first = catalog.ingest(photos, options=HERE)
    assert (first.stored, first.unchanged, catalog.count()) == (N, 0, N)
    paint(photos / "07.png", "red")
    second = catalog.ingest(str(photos), options=HERE)
    assert (second.stored, second.unchanged) == (1, N - 1)


def test_hits_of_a_photo_an_id_and_a_code_are_the_same(catalog: fg.Catalog, photos: Path) -> None:
    catalog.ingest(photos, options=HERE)
    query = photos / "03.png"
    by_photo = catalog.search(query, k=5)
    (row,) = [row for row in catalog.get([hit.id for hit in by_photo]) if row.path == "03.png"]
    assert [hit.distance for hit in by_photo] == sorted(hit.distance for hit in by_photo)
    assert len(by_photo) == 5
    assert by_photo[0].distance == 0
    forms: list[ImageLike] = [
        str(query),
        query.read_bytes(),
        Image.open(query),
        np.asarray(Image.open(query).convert("RGB")),
    ]
    by_form = [catalog.search(form) for form in forms]
    for found in (*by_form, catalog.search(id=row.id), catalog.search(code=row.code.tobytes().hex())):
        assert {hit.id for hit in found if hit.distance == 0} == {hit.id for hit in by_photo if hit.distance == 0}


def test_what_was_deleted_stays_out_until_its_content_changes(catalog: fg.Catalog, photos: Path) -> None:
    catalog.ingest(photos, options=HERE)
    gone = catalog.search(photos / "05.png", k=1)[0]
    assert catalog.delete([gone.id], dry_run=True).deleted == 0
    assert catalog.count() == N
    assert catalog.delete([gone.id]).deleted == 1
    assert catalog.ingest(photos, options=HERE).deleted == 1
    assert catalog.count() == N - 1
    paint(photos / gone.path, "blue")
    assert catalog.ingest(photos, options=HERE).stored == 1
    assert catalog.delete(filter=f'path == "{gone.path}"').deleted == 1


def test_verify_finds_what_repair_writes_again(catalog: fg.Catalog, photos: Path) -> None:
    catalog.ingest(photos, options=HERE)
    assert catalog.verify(photos).is_consistent
    lost = catalog.search(photos / "09.png", k=1)[0].id
    catalog.collection.delete([lost])  # behind the journal's back
    assert catalog.verify(photos).missing.count == 1
    done = catalog.repair(photos, options=HERE)
    assert (done.before.missing.count, done.ingest.stored, done.after.is_consistent) == (1, 1, True)
    assert catalog.count() == N


def test_two_bundles_one_name(file: Path, tmp_path: Path, new_name: str, photos: Path) -> None:
    """The name stands for the new model's collection after `promote`, and the folder of bundles has the right one."""
    bundles = tmp_path / "bundles"
    bundles.mkdir()
    one, two = (write_small_bundle(bundles / f"model{seed}", seed=seed) for seed in (1, 2))
    first = f"{new_name}_first"
    with fg.Catalog.open(file, first, bundle=one) as old:
        old.ingest(photos, options=HERE)
    with fg.Catalog.open(file, new_name, bundle=bundles) as catalog:
        assert catalog.promote(first).collection == first
        before = catalog.search(photos / "00.png", k=3)
        done = catalog.reindex(two, photos, options=HERE)
        assert (done.old, done.ingest.stored, done.verification.is_consistent) == (first, N, True)
        moved = catalog.promote()
        assert (moved.before, moved.collection) == (first, done.new)
        assert catalog.collection.name == done.new
        assert catalog.search(photos / "00.png", k=1)[0].distance == 0
        assert catalog.rollback().collection == first
        assert catalog.search(photos / "00.png", k=3) == before


def test_dedupe_and_evaluate(catalog: fg.Catalog, photos: Path) -> None:
    birds = photos.parent / "birds"
    for path, colour in (
        ("train/red/0.png", "red"),
        ("train/red/1.png", "red"),
        ("train/blue/0.png", "blue"),
        ("test/red/0.png", "#fe0000"),
        ("test/blue/0.png", "#0000fe"),
    ):
        (birds / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), colour).save(birds / path)
    catalog.ingest(birds, split="train", options=HERE)
    found = catalog.dedupe()
    assert [len(group.members) for group in found.groups if group.kind == "exact"] == [2]
    assert catalog.evaluate(birds, query_split="test").encoded.map_exact == 1


def test_the_module_runs_as_the_command() -> None:
    command = [sys.executable, "-m", "milvus_fghash", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"milvus-fghash, version {fg.__version__}"
