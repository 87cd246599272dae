"""verify: each thing that can be wrong is planted, found, named and mended, on Milvus Lite."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from milvus_fghash.errors import StoreError
from milvus_fghash.serving.encoder import Encoder
from milvus_fghash.serving.rows import photo_id
from milvus_fghash.serving.search import search_codes
from tests.serving.small_bundle import write_small_bundle
from tests.serving.small_catalog import Catalog, N


def wrong(found: Any) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {name: (one.count, one.examples) for name, one in found.findings.items() if one.count}


def row(catalog: Catalog, photo: str, **changes: Any) -> dict[str, Any]:
    """The row of a photo as pymilvus takes it."""
    (rows,) = [catalog.collection.get([photo_id("", photo)])]
    values = {"id": rows.ids[0], "code": rows.codes[0].tobytes(), "path": photo, "label": rows.labels[0]}
    return {**values, "content_sha": rows.content_shas[0], "meta": {}, **changes}


def test_a_whole_catalog_is_whole(catalog: Catalog) -> None:
    catalog.ingest()
    found = catalog.verify()
    assert found.is_whole
    assert (found.photos, found.acknowledged, found.rows, found.sampled) == (N, N, N, 20)
    assert (found.new_or_changed, found.refused, found.vanished, found.flipped_bits) == (0, 0, 0, 0)


def test_nothing_ingested_yet_is_no_fault(catalog: Catalog) -> None:
    found = catalog.verify()
    assert found.is_whole
    assert (found.new_or_changed, found.acknowledged, found.rows, found.sampled) == (N, 0, 0, 0)


def test_what_ingest_sees_to_is_counted_only(catalog: Catalog) -> None:
    (catalog.photos / "00.png").write_bytes(b"no photo")
    catalog.ingest()
    (catalog.photos / "01.png").unlink()
    shutil.copy(catalog.photos / "02.png", catalog.photos / "new.png")
    found = catalog.verify()
    assert found.is_whole
    assert (found.new_or_changed, found.refused, found.vanished) == (1, 1, 1)


def test_a_lost_row_is_missing_until_it_is_mended(catalog: Catalog) -> None:
    catalog.ingest()
    catalog.collection.delete([photo_id("", path) for path in ("03.png", "04.png")])
    assert catalog.ingest().stored == 0  # the journal alone does not know
    assert wrong(catalog.verify(and_mend=True)) == {"missing": (2, ("03.png", "04.png"))}
    assert catalog.ingest().stored == 2
    assert catalog.verify().is_whole
    assert catalog.collection.count() == N


def test_a_row_that_stands_twice_is_found_by_its_id_and_mended(catalog: Catalog) -> None:
    catalog.ingest()
    catalog.collection.client.insert(catalog.collection.name, [row(catalog, "05.png"), row(catalog, "31.png")])
    found = catalog.verify(and_mend=True)
    assert wrong(found) == {"duplicates": (2, ("05.png", "31.png"))}
    assert found.rows == N + 2
    assert catalog.ingest().stored == 2
    assert catalog.verify().is_whole
    assert catalog.collection.count() == N


def test_rows_of_a_vanished_photo_that_stand_twice_are_deleted(catalog: Catalog) -> None:
    catalog.ingest()
    catalog.collection.client.insert(catalog.collection.name, [row(catalog, "05.png")])
    (catalog.photos / "05.png").unlink()
    assert wrong(catalog.verify(and_mend=True)) == {"duplicates": (1, ("05.png",))}
    assert catalog.collection.count() == N - 1
    assert catalog.verify().is_whole


def test_a_row_nobody_knows_is_extra_and_deleted_on_request_only(catalog: Catalog) -> None:
    catalog.ingest()
    name, client = catalog.collection.name, catalog.collection.client
    stranger = row(catalog, "05.png", id=photo_id("", "stranger.png"), path="stranger.png")
    client.insert(name, [stranger, row(catalog, "05.png", id="other", path="other.png", meta={"namespace": "other"})])
    for delete_extra in (False, True):
        found = catalog.verify(and_mend=True, delete_extra=delete_extra)
        assert wrong(found) == {"extra": (1, ("stranger.png",))}
    assert catalog.verify().is_whole
    assert catalog.collection.count() == N + 1  # that of another namespace is somebody else's


def test_a_lost_journal_makes_no_row_of_the_listing_extra(catalog: Catalog) -> None:
    catalog.ingest()
    shutil.rmtree(catalog.folder)
    found = catalog.verify()
    assert found.is_whole
    assert (found.acknowledged, found.new_or_changed) == (0, N)
    assert catalog.ingest().rows_in_collection == N


def test_a_row_of_another_content_is_unlike(catalog: Catalog) -> None:
    catalog.ingest()
    catalog.collection.client.upsert(catalog.collection.name, [row(catalog, "05.png", content_sha="0" * 64)])
    assert wrong(catalog.verify(and_mend=True)) == {"unlike": (1, ("05.png",))}
    catalog.ingest()
    assert catalog.verify().is_whole


def test_another_code_is_seen_in_the_sample(catalog: Catalog) -> None:
    catalog.ingest()
    before = catalog.contents()
    rows = [row(catalog, path, code=bytes(b ^ 0xF0 for b in code)) for path, (code, _) in before.items()]
    catalog.collection.client.upsert(catalog.collection.name, rows)
    found = catalog.verify(and_mend=True)
    assert found.miscoded.count == found.sampled == 20
    assert found.flipped_bits == pytest.approx(8 / 12)
    while not catalog.verify(and_mend=True).is_whole:
        catalog.ingest()


def test_a_search_that_does_not_find_a_row_is_seen(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.ingest()

    def lose_some(collection: Any, codes: Any, wanted: Any) -> Any:
        return search_codes(collection, codes, replace(wanted, filter=f'({wanted.filter}) and path > "20"'))

    monkeypatch.setattr("milvus_fghash.serving.verify.search_codes", lose_some)
    found = catalog.verify()
    assert 0 < found.not_found.count < found.sampled
    assert max(found.not_found.examples) < "20"


def test_another_model_is_refused(catalog: Catalog, tmp_path: Path) -> None:
    catalog.encoder = Encoder.open(write_small_bundle(tmp_path / "bundle", seed=1))
    with pytest.raises(StoreError, match="fingerprint"):
        catalog.verify()
