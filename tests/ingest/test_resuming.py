"""Ingest with a journal: what is read again and what is not, on Milvus Lite."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from milvus_fghash.datasets.read import read
from milvus_fghash.errors import DataError
from milvus_fghash.ingest.api import IngestOptions, IngestResult, ingest
from milvus_fghash.ingest.changes import Changes
from milvus_fghash.ingest.delete import delete_ids
from milvus_fghash.milvus.rows import photo_id
from tests.helpers.small_catalog import EIGHT, Catalog, N, paint

pytestmark = pytest.mark.full


def counts(result: IngestResult) -> tuple[int, int, int, int]:
    return result.stored, result.unchanged, result.rejected, result.rows_in_collection


def test_a_second_run_reads_only_what_changed(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    assert counts(catalog.ingest()) == (N, 0, 0, N)
    before = catalog.contents()
    paint(catalog.photos / "03.png", "red")
    paint(catalog.photos / "new.png", "blue")
    assert counts(catalog.ingest()) == (2, N - 1, 0, N + 1)
    after = catalog.contents()
    assert {path for path in after if before.get(path) != after[path]} == {"03.png", "new.png"}
    for file in catalog.photos.iterdir():  # unreadable now, but nobody looks
        status = file.stat()
        file.write_bytes(b"x" * status.st_size)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert counts(catalog.ingest()) == (0, N + 1, 0, N + 1)
    assert catalog.contents() == after


def test_another_label_is_a_change(catalog: Catalog) -> None:
    dataset = read("folder", catalog.photos)
    with catalog.open_journal() as journal:
        ingest(catalog.encoder, dataset, catalog.collection, journal=journal)
    labels = ("robin", *dataset.labels[1:])
    with catalog.open_journal() as journal:
        result = ingest(catalog.encoder, replace(dataset, labels=labels), catalog.collection, journal=journal)
    assert counts(result) == (1, N - 1, 0, N)
    (rows,) = catalog.collection.scan()
    assert dict(zip(rows.paths, rows.labels, strict=True))["00.png"] == "robin"


def test_a_moved_folder_is_unchanged(catalog: Catalog, tmp_path: Path) -> None:
    catalog.ingest()
    catalog.photos = catalog.photos.rename(tmp_path / "elsewhere")
    assert counts(catalog.ingest()) == (0, N, 0, N)
    (catalog.photos / "05.png").unlink()
    assert catalog.ingest().vanished == 1


def test_a_photo_of_two_listings_goes_when_both_have_lost_it(catalog: Catalog) -> None:
    catalog.ingest()
    catalog.ingest(part="train")
    (catalog.photos / "05.png").unlink()
    for part, wanted in (("", (1, 0, N)), ("train", (1, 1, N - 1)), ("", (0, 0, N - 1)), ("train", (0, 0, N - 1))):
        result = catalog.ingest(IngestOptions(rows_per_write=8, prune=True), part=part)
        assert (result.vanished, result.pruned, result.rows_in_collection) == wanted, part


def test_photos_of_a_moved_folder_are_missed_in_the_new_one(catalog: Catalog, tmp_path: Path) -> None:
    catalog.ingest()
    catalog.photos = catalog.photos.rename(tmp_path / "elsewhere")
    (catalog.photos / "05.png").unlink()
    result = catalog.ingest(IngestOptions(rows_per_write=8, prune=True))
    assert (result.stored, result.vanished, result.pruned, result.rows_in_collection) == (0, 1, 1, N - 1)


def test_two_folders_with_the_same_names_are_told_of(catalog: Catalog, tmp_path: Path) -> None:
    catalog.ingest()
    mine, catalog.photos = catalog.photos, tmp_path / "others"
    catalog.photos.mkdir()
    paint(catalog.photos / "05.png", "red")
    others = catalog.photos
    for place, wanted in ((others, 1), (mine, 1), (others, 1), (others, 0)):  # as often as one undoes the other
        messages: list[str] = []
        catalog.photos = place
        catalog.ingest(notify=messages.append)
        assert [line[:48] for line in messages] == ["1 photos replaced the rows of photos with the sa"] * wanted


def test_rows_that_milvus_lost_are_told_of(catalog: Catalog) -> None:
    catalog.ingest()
    catalog.collection.delete([photo_id("", "03.png")])
    messages: list[str] = []
    catalog.ingest(notify=messages.append)
    assert messages[0].startswith(
        f"Milvus acknowledged 40 rows of {catalog.collection.name} and has 39; verify names the missing"
    )


def test_a_journal_serves_two_runs_one_after_the_other(catalog: Catalog) -> None:
    dataset = read("folder", catalog.photos)
    with catalog.open_journal() as journal:
        for wanted in ((N, 0, 0, N), (0, N, 0, N)):
            assert counts(ingest(catalog.encoder, dataset, catalog.collection, journal=journal)) == wanted


def test_a_deleted_row_stays_away_whatever_becomes_of_the_file_but_another_content(catalog: Catalog) -> None:
    catalog.ingest()
    photo, raw = catalog.photos / "05.png", (catalog.photos / "05.png").read_bytes()
    with catalog.open_journal() as journal:
        assert delete_ids(catalog.collection, [photo_id("", "05.png")], True, journal).deleted == 1
    assert (catalog.ingest().deleted, catalog.collection.count()) == (1, N - 1)
    photo.unlink()
    catalog.ingest(IngestOptions(rows_per_write=8, prune=True))
    photo.write_bytes(raw)
    os.utime(photo, (1, 1))
    result = catalog.ingest()
    assert (result.stored, result.deleted, result.rows_in_collection) == (0, 1, N - 1)
    paint(photo, "red")
    result = catalog.ingest()
    assert (result.stored, result.deleted, result.rows_in_collection) == (1, 0, N)


def test_rejected_photos_are_remembered_until_they_change(catalog: Catalog, tmp_path: Path) -> None:
    broken = catalog.photos / "07.png"
    broken.write_bytes(b"no photo")
    report = tmp_path / "rejected.jsonl"
    for options in (EIGHT, EIGHT, IngestOptions(rows_per_write=8, retry_rejected=True)):
        result = catalog.ingest(options, report=report)
        assert result.reasons == {"format": 1}
        assert report.read_text().startswith('{"path": "07.png", "reason": "format"')
    paint(broken, "green")
    assert counts(catalog.ingest()) == (1, N - 1, 0, N)


def test_a_photo_that_took_too_long_is_tried_again(catalog: Catalog) -> None:
    catalog.ingest()
    with catalog.open_journal() as journal:
        changes = Changes(read("folder", catalog.photos), "", journal)
        assert not list(changes.todo())
        known = journal.mark_seen(changes.source, [changes.id(row) for row in range(3)]).entries
        for entry, reason in zip(known.values(), ("timeout", "crash", "broken"), strict=True):
            journal.put([replace(entry, reason=reason)])
    assert counts(catalog.ingest()) == (2, N - 3, 1, N)


def test_a_rejected_photo_that_is_gone_is_forgotten(catalog: Catalog) -> None:
    (catalog.photos / "07.png").write_bytes(b"no photo")
    catalog.ingest()
    (catalog.photos / "07.png").unlink()
    assert catalog.ingest().vanished == 0
    with catalog.open_journal() as journal:
        journal.begin_scan()
        assert not journal.mark_seen(1, [photo_id("", "07.png")]).entries


def test_a_photo_that_broke_keeps_its_row_and_is_told(catalog: Catalog) -> None:
    catalog.ingest()
    before = catalog.contents()
    (catalog.photos / "07.png").write_bytes(b"half an upload")
    assert counts(catalog.ingest()) == (0, N - 1, 1, N)
    assert catalog.contents() == before


def test_a_missing_photo_is_looked_for_again(catalog: Catalog) -> None:
    dataset = read("folder", catalog.photos)
    raw = (catalog.photos / "07.png").read_bytes()
    (catalog.photos / "07.png").unlink()
    for wanted in ((N - 1, 0, 1, N - 1), (0, N - 1, 1, N - 1), (1, N - 1, 0, N)):
        with catalog.open_journal() as journal:
            assert counts(ingest(catalog.encoder, dataset, catalog.collection, journal=journal)) == wanted
        if wanted[0] == 0:
            (catalog.photos / "07.png").write_bytes(raw)


def test_a_photo_listed_twice_is_told_and_its_first_line_counts(catalog: Catalog, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("id,path,label\n1,photos/00.png,robin\n2,photos/01.png,wren\n3,photos/00.png,crow\n")
    dataset = read("table", table)
    for wanted in ((2, 0, 1, 2), (0, 2, 1, 2)):
        with catalog.open_journal() as journal:
            result = ingest(catalog.encoder, dataset, catalog.collection, journal=journal)
        assert (counts(result), result.reasons) == (wanted, {"twice": 1})
    (rows,) = catalog.collection.scan()
    assert dict(zip(rows.paths, rows.labels, strict=True))["photos/00.png"] == "robin"


def test_pruning_deletes_the_rows_of_what_is_gone(catalog: Catalog) -> None:
    catalog.ingest()
    for number in range(5):
        (catalog.photos / f"{number:02}.png").unlink()
    assert (catalog.ingest().vanished, catalog.collection.count()) == (5, N)
    result = catalog.ingest(IngestOptions(rows_per_write=3, prune=True))
    assert (result.vanished, result.pruned, result.rows_in_collection) == (5, 5, N - 5)
    assert "04.png" not in catalog.contents()
    assert catalog.ingest(IngestOptions(rows_per_write=3, prune=True)).vanished == 0


def test_a_disk_that_is_not_there_prunes_nothing(catalog: Catalog) -> None:
    catalog.ingest()
    for number in range(N - 5):
        (catalog.photos / f"{number:02}.png").unlink()
    with pytest.raises(DataError, match="35 photos of earlier runs have vanished and 5 are present, so no row was"):
        catalog.ingest(IngestOptions(prune=True))
    assert catalog.collection.count() == N
    assert catalog.ingest(IngestOptions(prune=True, prune_at_most=1)).rows_in_collection == 5
