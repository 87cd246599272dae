"""Milvus Lite where it cannot work as it likes: no home folder, nothing to write to, a full disk, its process gone."""

from __future__ import annotations

import os
import pwd
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.core.environment import state_folder
from milvus_fghash.errors import DataError, StoreError
from milvus_fghash.milvus import lite
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect, journal_folder
from milvus_fghash.milvus.retry import RetryPolicy
from milvus_fghash.search.search import SearchParams, search_codes
from tests.helpers.small_catalog import Catalog, draw_photos
from tests.helpers.small_rows import rows_of

pytestmark = pytest.mark.full


@pytest.fixture
def own(tmp_path: Path, bundle: Path) -> Iterator[HashCollection]:
    """A collection in a file of its own, whose Milvus Lite may be broken."""
    with closing(connect(ConnectionConfig(str(tmp_path / "own.db")))) as client:
        yield HashCollection.create(client, "own", read_bundle(bundle).manifest)
    manager = lite_manager()
    if str(tmp_path / "own.db") in manager._servers:
        manager.release_server(str(tmp_path / "own.db"))


def lite_manager() -> Any:
    from milvus_lite.server_manager import server_manager_instance  # warns when it is imported before `connect`

    return server_manager_instance


def no_user(_number: int) -> NoReturn:
    raise KeyError("no user of this number")


@pytest.mark.parametrize("home", ["/proc/nohome", "/proc/self/status", None])
def test_without_a_home_folder_milvus_lite_gets_one(
    home: str | None, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nobody can make, one that is none, and none at all under a number without a user."""
    if home is None:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", no_user)
    else:
        monkeypatch.setenv("HOME", home)
    path = tmp_path / "a.db"
    with closing(connect(ConnectionConfig(str(path)))) as client:
        collection = HashCollection.create(client, "photos", read_bundle(bundle).manifest)
        rows = rows_of(5, collection.bits)
        collection.upsert(rows)
        assert search_codes(collection, rows.codes[:1], SearchParams(1))[
            0
        ].hits  # dies without a cache in a home folder
    assert os.environ.get("HOME") == home
    lite_manager().release_server(str(path))


def test_what_needs_a_home_folder_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_user)
    with pytest.raises(StoreError, match="there is no home folder; give the absolute path"):
        connect(ConnectionConfig("~/a.db"))
    for look in (state_folder, lambda: journal_folder(ConnectionConfig("http://localhost:19530"), "photos")):
        with pytest.raises(DataError, match=r"there is no home folder .*: set XDG_STATE_HOME") as caught:
            look()
        assert caught.value.setting == "journal"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert state_folder() == Path("/state/milvus-fghash")


def test_a_folder_in_which_nothing_can_be_made_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StoreError, match=r"cannot open /proc/a.db: no permission to write"):
        connect(ConnectionConfig("/proc/a.db"))
    assert "Traceback" not in capfd.readouterr().err


def test_a_file_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests as root may write everything, so the question is answered for another."""
    (tmp_path / "a.db").touch()
    real = os.access
    for barred in (tmp_path, tmp_path / "a.db"):
        monkeypatch.setattr(os, "access", lambda path, mode, barred=barred: path != barred and real(path, mode))
        with pytest.raises(StoreError, match="does even for a search"):
            connect(ConnectionConfig(str(tmp_path / "a.db")))


def test_without_a_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/proc/nowhere"])
    with pytest.raises(
        StoreError, match=r"cannot open .*/a.db: Milvus Lite needs a temporary folder: No usable temporary"
    ):
        connect(ConnectionConfig(str(tmp_path / "a.db")))


def break_disk(collection: HashCollection, folder: Path) -> None:
    """Milvus Lite cannot write the journal of its database any more, and says as little as on a full disk."""
    collection.upsert(rows_of(3, collection.bits))
    (folder / "own.db-journal").mkdir()


def test_a_failed_write_of_milvus_lite_is_reported_at_once(
    own: HashCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_disk(own, tmp_path)
    started = time.monotonic()
    with pytest.raises(StoreError, match="cannot write to own: Milvus Lite gives no reason; is there free space on"):
        own.upsert(rows_of(3, own.bits))
    monkeypatch.setattr(lite, "MIN_FREE_BYTES", 1 << 60)
    with pytest.raises(StoreError, match=r"the disk of .*\.db is full \([\d,]+ KB free\); free some space \("):
        own.upsert(rows_of(3, own.bits))
    assert time.monotonic() - started < 5, "pymilvus repeated it"


def test_an_ingest_does_not_wait_for_a_full_disk_nor_for_a_milvus_lite_that_ended(
    own: HashCollection, bundle: Path, tmp_path: Path
) -> None:
    from milvus_fghash.encoding.encoder import Encoder
    from milvus_fghash.ingest.api import IngestOptions

    catalog = Catalog(Encoder.open(bundle), draw_photos(tmp_path / "photos"), own, tmp_path / "journal")
    patient = IngestOptions(rows_per_write=8, workers=0, retry=RetryPolicy(300))
    break_disk(own, tmp_path)
    messages: list[str] = []
    started = time.monotonic()
    with pytest.raises(StoreError, match="is there free space on the disk"):
        catalog.ingest(patient, notify=messages.append)
    (server,) = (one for path, one in lite_manager()._servers.items() if path.endswith("/own.db"))
    server._p.kill()
    server._p.wait()
    with pytest.raises(StoreError, match="the process of Milvus Lite has ended; the same command starts it again"):
        catalog.ingest(patient, notify=messages.append)
    assert time.monotonic() - started < 10
    assert not messages


def test_a_disk_that_is_full_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite finds no room to begin with, as behind a file that is none of its own; the reason is another."""
    (tmp_path / "a.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="is it an undamaged Milvus Lite 2 file"):
        connect(ConnectionConfig(str(tmp_path / "a.db")))
    monkeypatch.setattr(lite, "MIN_FREE_BYTES", 1 << 60)
    with pytest.raises(StoreError, match=r"the disk of .* is full"):
        connect(ConnectionConfig(str(tmp_path / "a.db")))


def test_the_file_is_intact_afterwards(own: HashCollection, tmp_path: Path) -> None:
    break_disk(own, tmp_path)
    with pytest.raises(StoreError):
        own.upsert(rows_of(8, own.bits))
    (tmp_path / "own.db-journal").rmdir()
    assert own.upsert(rows_of(8, own.bits)) == 8
    assert own.count() == 8
    with closing(sqlite3.connect(tmp_path / "own.db")) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)


def test_the_cache_of_milvus_lite_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that starts meanwhile would fail over a folder that it did not see a moment ago."""
    monkeypatch.setenv("HOME", str(tmp_path / "new"))
    assert lite._home() == tmp_path / "new"
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new" / ".cache").mkdir()
    assert lite._home() == tmp_path / "new"
    assert list((tmp_path / "new" / ".cache").iterdir()) == []


def test_a_milvus_lite_that_ends_as_it_starts_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when another program takes its cache away at that moment."""
    connect(ConnectionConfig(str(tmp_path / "other.db"))).close()
    from milvus_lite.server import Server  # warns when it is imported before `connect`
    from milvus_lite.server_manager import server_manager_instance

    start = Server.start
    ended: list[Any] = []

    def start_and_end(self: Any) -> bool:
        started = bool(start(self))
        if not ended:
            ended.append(self)
            self._p.kill()
            self._p.wait()
        return started

    monkeypatch.setattr(Server, "start", start_and_end)
    with closing(connect(ConnectionConfig(str(tmp_path / "own.db"), timeout=1))) as client:
        assert client.list_collections() == []
    assert ended
    for name in ("own.db", "other.db"):
        server_manager_instance.release_server(str(tmp_path / name))
