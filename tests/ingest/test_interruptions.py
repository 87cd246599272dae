"""Ingests that are stopped, or during which Milvus becomes unavailable: what is stored, on Milvus Lite."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.encoding.graph_runs import GraphRuns
from milvus_fghash.errors import Stopped, StoreBusy, StoreError
from milvus_fghash.ingest.api import IngestOptions
from milvus_fghash.ingest.delete import delete_ids
from milvus_fghash.ingest.pipeline import BatchSizing
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.retry import RetryPolicy
from milvus_fghash.milvus.rows import FieldValues, photo_id
from tests.helpers.small_catalog import Catalog, N, paint

pytestmark = pytest.mark.full


def test_photos_that_cannot_be_read_do_not_pile_up(catalog: Catalog) -> None:
    for file in catalog.photos.iterdir():
        file.write_bytes(b"no photo")
    seen: list[int] = []

    assert catalog.ingest(progress=lambda done, _total: seen.append(done)).rejected == N
    assert seen[:3] == [8, 16, 24]


def test_a_deletion_that_was_stopped_is_not_taken_back(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.ingest()
    ids = [photo_id("", f"{number:02}.png") for number in range(20)]
    delete = HashCollection.delete

    def half(collection: HashCollection, asked: Sequence[str]) -> int:
        delete(collection, asked[:10])
        raise StoreBusy("gone")

    with catalog.open_journal() as journal:
        monkeypatch.setattr(HashCollection, "delete", half)
        with pytest.raises(StoreBusy):
            delete_ids(catalog.collection, ids, True, journal)
        monkeypatch.setattr(HashCollection, "delete", delete)
        again = delete_ids(catalog.collection, ids, True, journal)
    assert (again.deleted, again.missing) == (10, 10)
    assert (catalog.ingest().deleted, catalog.collection.count()) == (20, N - 20)
    assert catalog.verify().is_consistent


def test_stopping_finishes_what_was_begun_and_the_next_run_does_the_rest(catalog: Catalog) -> None:
    stop = threading.Event()

    def look(done: int, _total: int) -> None:
        if done >= 12:
            stop.set()

    with pytest.raises(Stopped, match=r"stopped after \d+ photos were written; run it again to continue"):
        catalog.ingest(stop=stop, progress=look)
    first = catalog.collection.count()
    assert 12 <= first < N
    result = catalog.ingest()
    assert (result.stored, result.unchanged, result.vanished) == (N - first, first, 0)


ONE_AT_A_TIME = threading.Lock()


class Broken(HashCollection):
    """A collection of which Milvus goes away at the third write."""

    def write(self, values: FieldValues) -> None:
        with ONE_AT_A_TIME:
            if self.count() >= 16:
                raise StoreBusy("cannot write: the server cannot be reached")
            super().write(values)


def test_what_goes_wrong_with_the_last_batch_is_told_too(catalog: Catalog) -> None:
    catalog.ingest(IngestOptions(rows_per_write=16))
    catalog.collection = Broken(**vars(catalog.collection))
    paint(catalog.photos / "03.png", "red")
    with pytest.raises(StoreBusy):
        catalog.ingest(IngestOptions(rows_per_write=1000, retry=RetryPolicy(0)))


def test_after_a_failure_nothing_more_is_written_nor_waited_for(catalog: Catalog) -> None:
    tried: list[str] = []

    class Failing(HashCollection):
        def write(self, values: FieldValues) -> None:
            tried.append(values["path"][0])
            raise StoreBusy("gone")

    catalog.collection = Failing(**vars(catalog.collection))
    with pytest.raises(StoreBusy):
        catalog.ingest(IngestOptions(rows_per_write=8, retry=RetryPolicy(0.2, 0.05)))
    assert "00.png" in tried
    assert set(tried) <= {"00.png", "08.png"}  # two are under way at once


@pytest.mark.parametrize("older", ["goes in", "waits"])
def test_what_goes_wrong_with_one_batch_ends_the_others_too(catalog: Catalog, older: str) -> None:
    """The second is rejected for good, while the first is on its way, or waits for a Milvus that is gone."""
    tried: list[str] = []
    rejected = threading.Event()

    class Refusing(HashCollection):
        def write(self, values: FieldValues) -> None:
            tried.append(values["path"][0])
            if tried[-1] == "08.png":
                time.sleep(1)  # the third waits to be handed over by then
                rejected.set()
                raise StoreError("it is rejected")
            if older == "waits":
                raise StoreBusy("it is gone")
            rejected.wait(30)
            time.sleep(0.1)

    catalog.collection = Refusing(**vars(catalog.collection))
    started = time.monotonic()
    with pytest.raises(StoreError, match="it is"):
        catalog.ingest(IngestOptions(rows_per_write=8, retry=RetryPolicy(120, 0.5)))
    assert time.monotonic() - started < 60
    assert set(tried) == {"00.png", "08.png"}


def test_two_batches_that_wait_for_the_same_milvus_say_so_once(catalog: Catalog) -> None:
    away, messages = threading.Barrier(2, timeout=30), list[str]()
    failed: set[str] = set()

    class Away(HashCollection):
        def write(self, values: FieldValues) -> None:
            if (first := values["path"][0]) in ("00.png", "08.png") and first not in failed:
                failed.add(first)
                away.wait()
                raise StoreBusy("gone")
            super().write(values)

    catalog.collection = Away(**vars(catalog.collection))
    assert (
        catalog.ingest(IngestOptions(rows_per_write=8, retry=RetryPolicy(60, 0.5)), notify=messages.append).stored == N
    )
    assert messages == ["gone; retrying for 60 s", "Milvus is available again"]


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(1, 128))
def test_what_waits_and_what_is_encoded_is_one_batch_at_the_most(rows_per_write: int, size: int, streams: int) -> None:
    sizing = BatchSizing.of(rows_per_write, size, streams)
    assert 1 <= sizing.group_size <= size
    assert 1 <= sizing.groups_ahead <= streams + 1
    assert sizing.flush_at >= 1
    assert sizing.flush_at - 1 + sizing.groups_ahead * sizing.group_size <= rows_per_write
    assert rows_per_write < 2 * size or sizing.group_size == size  # large batches slow nobody down
    assert rows_per_write < (streams + 2) * size or sizing.groups_ahead == streams + 1


@pytest.mark.parametrize(("rows_per_write", "streams"), [(2, 3), (4, 1), (4, 3), (8, 1), (8, 3)])
def test_no_more_than_three_batches_are_under_way(catalog: Catalog, rows_per_write: int, streams: int) -> None:
    encoded, written, ahead = 0, 0, []

    class Slow(HashCollection):
        def write(self, values: FieldValues) -> None:
            nonlocal written
            time.sleep(0.05)
            with ONE_AT_A_TIME:
                written += len(values["id"])

    class Counting(Encoder):
        def _compute(self, runs: GraphRuns, images: NDArray[np.uint8], more: Sequence[str]) -> tuple[NDArray[Any], ...]:
            nonlocal encoded
            encoded += len(images)
            ahead.append(encoded - written)
            return super()._compute(runs, images, more)

    catalog.collection = Slow(**vars(catalog.collection))
    catalog.encoder = Counting(**vars(replace(catalog.encoder, batch_size=4, streams=streams)))
    catalog.ingest(IngestOptions(rows_per_write=rows_per_write))
    assert rows_per_write < max(ahead) <= 3 * rows_per_write


def test_a_milvus_that_stays_away_ends_the_run_and_nothing_is_lost(catalog: Catalog) -> None:
    whole = catalog.collection
    catalog.collection = Broken(**vars(whole))
    with pytest.raises(StoreBusy, match="gave up after 0 s"):
        catalog.ingest(IngestOptions(rows_per_write=8, retry=RetryPolicy(0.05, 0.01)))
    catalog.collection = whole
    assert whole.count() == 16
    result = catalog.ingest()
    assert (result.stored, result.unchanged, result.rows_in_collection) == (N - 16, 16, N)


@pytest.mark.parametrize(("retry", "timeout"), [(0.0, 10.0), (5.0, 10.0), (30.0, 30.0), (300.0, 60.0)])
def test_a_call_takes_no_longer_than_someone_wants_to_wait(catalog: Catalog, retry: float, timeout: float) -> None:
    """pymilvus repeats a call that failed until its time is over, and only then it is our turn to wait."""
    seen: set[float] = set()

    class Looking(HashCollection):
        def write(self, values: FieldValues) -> None:
            seen.add(self.timeout)
            super().write(values)

        def count(self, filter: str = "") -> int:
            seen.add(self.timeout)
            return super().count()

    catalog.collection = Looking(**vars(catalog.collection))
    catalog.ingest(IngestOptions(retry=RetryPolicy(retry), workers=0))
    assert seen == {timeout}
