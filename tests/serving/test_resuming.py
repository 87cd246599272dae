"""Ingest with a journal: what is read again and what is not, on Milvus Lite."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from milvus_fghash.data import read
from milvus_fghash.errors import DataError, Stopped, StoreBusy
from milvus_fghash.serving.changes import Changes
from milvus_fghash.serving.collection import HashCollection
from milvus_fghash.serving.encoder import Encoder
from milvus_fghash.serving.ingest import IngestOptions, IngestResult, ingest
from milvus_fghash.serving.patience import Patience
from milvus_fghash.serving.rows import Rows, photo_id
from milvus_fghash.serving.writing import HANDED_OVER
from tests.serving.small_catalog import EIGHT, Catalog, N


def counts(result: IngestResult) -> tuple[int, int, int, int]:
    return result.stored, result.unchanged, result.refused, result.rows_in_collection


def paint(file: Path, colour: str) -> None:
    """Another picture of the same size in bytes may have the same time on a coarse clock, so the time is moved on."""
    Image.new("RGB", (20, 20), colour).save(file)
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))


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
    listing = read("folder", catalog.photos)
    with catalog.open_journal() as journal:
        ingest(catalog.encoder, listing, catalog.collection, journal=journal)
    labels = ("robin", *listing.labels[1:])
    with catalog.open_journal() as journal:
        result = ingest(catalog.encoder, replace(listing, labels=labels), catalog.collection, journal=journal)
    assert counts(result) == (1, N - 1, 0, N)
    (rows,) = catalog.collection.scan()
    assert dict(zip(rows.paths, rows.labels, strict=True))["00.png"] == "robin"


def test_a_moved_folder_is_unchanged(catalog: Catalog, tmp_path: Path) -> None:
    catalog.ingest()
    catalog.photos = catalog.photos.rename(tmp_path / "elsewhere")
    assert counts(catalog.ingest()) == (0, N, 0, N)
    (catalog.photos / "05.png").unlink()
    assert catalog.ingest().vanished == 1


def test_refused_photos_are_remembered_until_they_change(catalog: Catalog, tmp_path: Path) -> None:
    broken = catalog.photos / "07.png"
    broken.write_bytes(b"no photo")
    report = tmp_path / "refused.jsonl"
    for options in (EIGHT, EIGHT, IngestOptions(8, retry_refused=True)):
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
        (known, _) = journal.see(changes.source, [changes.id(row) for row in range(3)])
        for entry, reason in zip(known.values(), ("timeout", "crash", "broken"), strict=True):
            journal.put(changes.source, [replace(entry, reason=reason)])
    assert counts(catalog.ingest()) == (2, N - 3, 1, N)


def test_a_refused_photo_that_is_gone_is_forgotten(catalog: Catalog) -> None:
    (catalog.photos / "07.png").write_bytes(b"no photo")
    catalog.ingest()
    (catalog.photos / "07.png").unlink()
    assert catalog.ingest().vanished == 0
    with catalog.open_journal() as journal:
        known, _ = journal.see(1, [photo_id("", "07.png")])
        assert not known


def test_a_photo_that_broke_keeps_its_row_and_is_told(catalog: Catalog) -> None:
    catalog.ingest()
    before = catalog.contents()
    (catalog.photos / "07.png").write_bytes(b"half an upload")
    assert counts(catalog.ingest()) == (0, N - 1, 1, N)
    assert catalog.contents() == before


def test_a_missing_photo_is_looked_for_again(catalog: Catalog) -> None:
    listing = read("folder", catalog.photos)
    raw = (catalog.photos / "07.png").read_bytes()
    (catalog.photos / "07.png").unlink()
    for wanted in ((N - 1, 0, 1, N - 1), (0, N - 1, 1, N - 1), (1, N - 1, 0, N)):
        with catalog.open_journal() as journal:
            assert counts(ingest(catalog.encoder, listing, catalog.collection, journal=journal)) == wanted
        if wanted[0] == 0:
            (catalog.photos / "07.png").write_bytes(raw)


def test_a_photo_listed_twice_is_told_and_its_first_line_counts(catalog: Catalog, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("id,path,label\n1,photos/00.png,robin\n2,photos/01.png,wren\n3,photos/00.png,crow\n")
    listing = read("table", table)
    for wanted in ((2, 0, 1, 2), (0, 2, 1, 2)):
        with catalog.open_journal() as journal:
            result = ingest(catalog.encoder, listing, catalog.collection, journal=journal)
        assert (counts(result), result.reasons) == (wanted, {"twice": 1})
    (rows,) = catalog.collection.scan()
    assert dict(zip(rows.paths, rows.labels, strict=True))["photos/00.png"] == "robin"


def test_pruning_deletes_the_rows_of_what_is_gone(catalog: Catalog) -> None:
    catalog.ingest()
    for number in range(5):
        (catalog.photos / f"{number:02}.png").unlink()
    assert (catalog.ingest().vanished, catalog.collection.count()) == (5, N)
    result = catalog.ingest(IngestOptions(3, prune=True))
    assert (result.vanished, result.pruned, result.rows_in_collection) == (5, 5, N - 5)
    assert "04.png" not in catalog.contents()
    assert catalog.ingest(IngestOptions(3, prune=True)).vanished == 0


def test_a_disk_that_is_not_there_prunes_nothing(catalog: Catalog) -> None:
    catalog.ingest()
    for number in range(N - 5):
        (catalog.photos / f"{number:02}.png").unlink()
    with pytest.raises(DataError, match="35 photos of earlier runs are gone and 5 are there, so nothing was pruned"):
        catalog.ingest(IngestOptions(prune=True))
    assert catalog.collection.count() == N
    assert catalog.ingest(IngestOptions(prune=True, prune_at_most=1)).rows_in_collection == 5


def test_stopping_finishes_what_was_begun_and_the_next_run_does_the_rest(catalog: Catalog) -> None:
    stop = threading.Event()

    def look(done: int, _total: int) -> None:
        if done >= 12:
            stop.set()

    with pytest.raises(Stopped, match="more photos are in, and the same command goes on"):
        catalog.ingest(stop=stop, progress=look)
    first = catalog.collection.count()
    assert 12 <= first < N
    result = catalog.ingest()
    assert (result.stored, result.unchanged, result.vanished) == (N - first, first, 0)


class Broken(HashCollection):
    """A collection of which Milvus goes away at the third write."""

    def upsert(self, rows: Rows, embeddings: object = None) -> int:
        if self.count() >= 16:
            raise StoreBusy("cannot write: the server cannot be reached")
        return super().upsert(rows)


def test_what_goes_wrong_with_the_last_batch_is_told_too(catalog: Catalog) -> None:
    catalog.ingest(IngestOptions(batch_rows=16))
    catalog.collection = Broken(**vars(catalog.collection))
    paint(catalog.photos / "03.png", "red")
    with pytest.raises(StoreBusy):
        catalog.ingest(IngestOptions(batch_rows=1000, patience=Patience(0)))


def test_no_more_than_two_batches_wait_for_a_slow_milvus(catalog: Catalog) -> None:
    encoded, written, ahead = 0, 0, []

    class Slow(HashCollection):
        def upsert(self, rows: Rows, embeddings: object = None) -> int:
            nonlocal written
            time.sleep(0.05)
            written += len(rows)
            return len(rows)

    class Counting(Encoder):
        def run(self, images: NDArray[np.uint8], *more: str) -> tuple[NDArray[Any], ...]:
            nonlocal encoded
            encoded += len(images)
            ahead.append(encoded - written)
            return super().run(images, *more)

    catalog.collection = Slow(**vars(catalog.collection))
    catalog.encoder = Counting(**vars(replace(catalog.encoder, batch_size=4)))
    catalog.ingest(IngestOptions(batch_rows=4))
    assert max(ahead) == (HANDED_OVER + 1) * 4


def test_a_milvus_that_stays_away_ends_the_run_and_nothing_is_lost(catalog: Catalog) -> None:
    whole = catalog.collection
    catalog.collection = Broken(**vars(whole))
    with pytest.raises(StoreBusy, match="gave up after 0 s"):
        catalog.ingest(IngestOptions(8, patience=Patience(0.05, 0.01)))
    catalog.collection = whole
    assert whole.count() == 16
    result = catalog.ingest()
    assert (result.stored, result.unchanged, result.rows_in_collection) == (N - 16, 16, N)
