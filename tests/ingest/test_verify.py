"""verify: each thing that can be wrong is planted, found, named and repaired, on Milvus Lite."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import StoreError
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import photo_id
from milvus_fghash.search.search import search_codes
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_catalog import Catalog, N

pytestmark = pytest.mark.full


def wrong(found: Any) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {name: (one.count, one.examples) for name, one in found.findings.items() if one.count}


def row(catalog: Catalog, photo: str, **changes: Any) -> dict[str, Any]:
    """The row of a photo as pymilvus takes it."""
    (rows,) = [catalog.collection.get([photo_id("", photo)])]
    values = {"id": rows.ids[0], "code": rows.codes[0].tobytes(), "path": photo, "label": rows.labels[0]}
    return {**values, "content_sha": rows.content_shas[0], "meta": {}, "phash": 0, **changes}


def test_a_whole_catalog_is_whole(catalog: Catalog) -> None:
    catalog.ingest()
    found = catalog.verify()
    assert found.is_consistent
    assert (found.photos, found.acknowledged, found.rows, found.sampled) == (N, N, N, 20)
    assert (found.new_or_changed, found.rejected, found.vanished, found.flipped_bits) == (0, 0, 0, 0)


def test_nothing_ingested_yet_is_no_fault(catalog: Catalog) -> None:
    found = catalog.verify()
    assert found.is_consistent
    assert (found.new_or_changed, found.acknowledged, found.rows, found.sampled) == (N, 0, 0, 0)


def test_what_ingest_sees_to_is_counted_only(catalog: Catalog) -> None:
    (catalog.photos / "00.png").write_bytes(b"no photo")
    catalog.ingest()
    (catalog.photos / "01.png").unlink()
    shutil.copy(catalog.photos / "02.png", catalog.photos / "new.png")
    found = catalog.verify()
    assert found.is_consistent
    assert (found.new_or_changed, found.rejected, found.vanished) == (1, 1, 1)


def test_a_lost_row_is_missing_until_it_is_mended(catalog: Catalog) -> None:
    catalog.ingest()
    catalog.collection.delete([photo_id("", path) for path in ("03.png", "04.png")])
    assert catalog.ingest().stored == 0  # the journal alone does not know
    assert wrong(catalog.verify(and_mend=True)) == {"missing": (2, ("03.png", "04.png"))}
    assert catalog.ingest().stored == 2
    assert catalog.verify().is_consistent
    assert catalog.collection.count() == N


def test_a_row_that_stands_twice_is_found_by_its_id_and_mended(catalog: Catalog) -> None:
    catalog.ingest()
    catalog.collection.client.insert(catalog.collection.name, [row(catalog, "05.png"), row(catalog, "31.png")])
    found = catalog.verify(and_mend=True)
    assert wrong(found) == {"duplicates": (2, ("05.png", "31.png"))}
    assert found.rows == N + 2
    assert catalog.ingest().stored == 0
    assert catalog.verify().is_consistent
    assert catalog.collection.count() == N


def test_what_is_wrong_with_other_photos_is_left_to_them(catalog: Catalog, tmp_path: Path) -> None:
    catalog.ingest()
    mine, catalog.photos = catalog.photos, tmp_path / "others"
    catalog.photos.mkdir()
    for name in ("lost.png", "other.png", "twice.png"):
        shutil.copy(mine / "05.png", catalog.photos / name)
    catalog.ingest()
    catalog.collection.delete([photo_id("", "lost.png")])
    client, name = catalog.collection.client, catalog.collection.name
    client.upsert(name, [row(catalog, "other.png", content_sha="0" * 64)])
    client.insert(name, [row(catalog, "twice.png")])
    others, catalog.photos = catalog.photos, mine
    found = catalog.verify(and_mend=True, delete_extra=True)
    assert {name: one.count for name, one in found.findings.items() if one.count} == {
        "missing": 1, "duplicates": 1, "outdated": 1
    }  # fmt: skip
    assert found.in_other_datasets == 2
    catalog.ingest()
    assert {name: one.count for name, one in catalog.verify().findings.items() if one.count} == {
        "missing": 1, "outdated": 1
    }  # fmt: skip
    catalog.photos = others
    catalog.verify(and_mend=True)
    catalog.ingest()
    assert catalog.verify().is_consistent
    assert catalog.collection.count() == N + 3


def test_rows_of_a_vanished_photo_that_stand_twice_become_one(catalog: Catalog) -> None:
    catalog.ingest()
    before = catalog.contents()
    catalog.collection.client.insert(catalog.collection.name, [row(catalog, "05.png")])
    (catalog.photos / "05.png").unlink()
    assert wrong(catalog.verify(and_mend=True)) == {"duplicates": (1, ("05.png",))}
    assert catalog.collection.count() == N
    assert catalog.contents() == before
    assert catalog.verify().is_consistent


def test_rows_with_an_embedding_that_stand_twice_become_one(catalog: Catalog, new_name: str, tmp_path: Path) -> None:
    encoder = Encoder.open(write_small_bundle(tmp_path / "wide", outputs=("logits", "codes", "embedding")))
    client = catalog.collection.client
    catalog.encoder = encoder
    catalog.collection = HashCollection.create(client, f"{new_name}_wide", encoder.bundle.manifest, embedding_dim=3)
    catalog.ingest()
    (whole,) = client.get(catalog.collection.name, [photo_id("", "05.png")], output_fields=["*"])
    client.insert(catalog.collection.name, [{**whole, "code": whole["code"][0]}])
    assert wrong(catalog.verify(and_mend=True)) == {"duplicates": (1, ("05.png",))}
    (now,) = client.get(catalog.collection.name, [photo_id("", "05.png")], output_fields=["*"])
    assert now == whole
    assert catalog.verify().is_consistent


def test_a_row_nobody_knows_is_extra_and_deleted_on_request_only(catalog: Catalog) -> None:
    catalog.ingest()
    name, client = catalog.collection.name, catalog.collection.client
    stranger = row(catalog, "05.png", id=photo_id("", "stranger.png"), path="stranger.png")
    client.insert(name, [stranger, row(catalog, "05.png", id="other", path="other.png", meta={"namespace": "other"})])
    for delete_extra in (False, True):
        found = catalog.verify(and_mend=True, delete_extra=delete_extra)
        assert wrong(found) == {"extra": (1, ("stranger.png",))}
    assert catalog.verify().is_consistent
    assert catalog.collection.count() == N + 1  # that of another namespace is somebody else's


def test_a_lost_journal_makes_no_row_of_the_listing_extra(catalog: Catalog) -> None:
    catalog.ingest()
    shutil.rmtree(catalog.folder)
    found = catalog.verify()
    assert found.is_consistent
    assert (found.acknowledged, found.new_or_changed, found.unacknowledged, found.sampled) == (0, N, N, 20)
    assert catalog.ingest().rows_in_collection == N


def test_without_a_journal_the_sample_is_looked_at_all_the_same(catalog: Catalog) -> None:
    catalog.ingest()
    shutil.rmtree(catalog.folder)
    spoil_codes(catalog)
    assert catalog.verify().miscoded.count == 20


def spoil_codes(catalog: Catalog) -> None:
    rows = [row(catalog, path, code=bytes(b ^ 0xF0 for b in code)) for path, (code, _) in catalog.contents().items()]
    catalog.collection.client.upsert(catalog.collection.name, rows)


def test_a_row_that_was_to_be_deleted_is_extra(catalog: Catalog) -> None:
    catalog.ingest()
    with catalog.open_journal() as journal:
        journal.mark_deleted([photo_id("", "05.png")])
    assert wrong(catalog.verify(and_mend=True, delete_extra=True)) == {"extra": (1, ("05.png",))}
    assert catalog.verify().is_consistent
    assert catalog.ingest().rows_in_collection == N - 1


def test_a_row_of_another_content_is_unlike(catalog: Catalog) -> None:
    catalog.ingest()
    catalog.collection.client.upsert(catalog.collection.name, [row(catalog, "05.png", content_sha="0" * 64)])
    assert wrong(catalog.verify(and_mend=True)) == {"outdated": (1, ("05.png",))}
    catalog.ingest()
    assert catalog.verify().is_consistent


def test_another_code_is_seen_in_the_sample_and_each_seed_draws_another(catalog: Catalog) -> None:
    catalog.ingest()
    before = catalog.contents()
    spoil_codes(catalog)
    found = catalog.verify(and_mend=True)
    assert found.miscoded.count == found.sampled == 20
    assert found.flipped_bits == pytest.approx(8 / 12)
    assert catalog.ingest().stored == 20
    assert catalog.contents() != before  # a sample repairs a sample
    assert catalog.verify().is_consistent
    assert not catalog.verify(seed=1).is_consistent
    shutil.rmtree(catalog.folder)
    catalog.ingest()
    assert catalog.contents() == before


def test_a_search_that_does_not_find_a_row_is_seen(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.ingest()

    def lose_some(collection: Any, codes: Any, wanted: Any) -> Any:
        return search_codes(collection, codes, replace(wanted, filter=f'({wanted.filter}) and path > "20"'))

    monkeypatch.setattr("milvus_fghash.ingest.verify.search_codes", lose_some)
    found = catalog.verify()
    assert 0 < found.not_found.count < found.sampled
    assert max(found.not_found.examples) < "20"


def test_another_model_is_rejected(catalog: Catalog, tmp_path: Path) -> None:
    catalog.encoder = Encoder.open(write_small_bundle(tmp_path / "bundle", seed=1))
    with pytest.raises(StoreError, match="fingerprint"):
        catalog.verify()
