"""The journal: what it keeps, whose it is, and what it says when it cannot."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.milvus.connection import ConnectionConfig, journal_folder
from milvus_fghash.state.journal import (
    DELETED,
    MAX_IDS_PER_STATEMENT,
    Journal,
    JournalEntry,
    JournalLookup,
    journal_file,
)


def filled(folder: Path, *entries: JournalEntry, uid: str = "one") -> Journal:
    journal = Journal.open(folder, uid)
    journal.begin_scan()
    journal.mark_seen(journal.add_source("photos"), [one.id for one in entries])
    journal.put(entries)
    return journal


def stored(journal: Journal) -> list[JournalEntry]:
    return [one for one in journal.entries() if one.content_sha and one.reason != DELETED]


def test_what_was_put_is_known_after_closing(tmp_path: Path) -> None:
    good, rejected = (
        JournalEntry("a", "1.jpg", "10 20", "sha"),
        JournalEntry("b", "2.jpg", "30 40", reason="broken", message="no"),
    )
    with closing(filled(tmp_path, good, rejected)):
        pass
    with closing(Journal.open(tmp_path, "one")) as journal:
        journal.begin_scan()
        sight = journal.mark_seen(journal.add_source("photos"), ["a", "b", "c"])
        assert sight == JournalLookup({"a": good, "b": rejected}, [False] * 3)
        assert stored(journal) == [good]
        assert list(journal.rejected()) == [rejected]
        assert journal.reasons() == {"broken": 1}


def test_an_empty_file_is_a_new_journal(tmp_path: Path) -> None:
    """What a kill leaves between the creation of the file and that of its tables."""
    journal_file(tmp_path, "one").touch()
    with closing(filled(tmp_path, JournalEntry("a", "1.jpg", "10 20", "sha"))) as journal:
        assert len(stored(journal)) == 1


def test_more_photos_than_one_page(tmp_path: Path) -> None:
    entries = [
        JournalEntry(f"{number:05}", f"{number}.jpg", "", "sha") for number in range(2 * MAX_IDS_PER_STATEMENT + 3)
    ]
    with closing(filled(tmp_path, *entries)) as journal:
        assert stored(journal) == entries
        assert len(journal.mark_seen(1, [one.id for one in entries]).entries) == len(entries)
        assert not journal.unseen_members(1)


def test_a_photo_listed_twice_in_one_scan_is_repeated(tmp_path: Path) -> None:
    with closing(filled(tmp_path)) as journal:
        assert journal.mark_seen(1, ["a", "b", "a"]).repeated == [False, False, True]
        assert journal.mark_seen(1, ["b", "c"]).repeated == [True, False]
        journal.begin_scan()
        assert journal.mark_seen(1, ["b"]).repeated == [False]


def test_what_a_source_has_lost_is_asked_of_one_listing(tmp_path: Path) -> None:
    with closing(filled(tmp_path, JournalEntry("a", "a", "", "sha"), JournalEntry("b", "b", "", "sha"))) as journal:
        photos, others = journal.add_source("photos"), journal.add_source("others")
        assert not journal.unseen_members(photos)
        journal.begin_scan()
        journal.mark_seen(others, ["a"])
        assert journal.unseen_members(photos) == ["b"]
        assert journal.unseen_members(others) == []
        assert journal.members_of_others(photos, ["a", "b"]) == journal.members_of_any([others], ["a", "b"]) == {"a"}
        assert journal.members_of_any([photos, others], ["a", "b", "c"]) == {"a", "b"}
        assert journal.seen_fraction(photos) == 0.5
        journal.remove_members(photos, ["a", "b"])
        assert [one.id for one in stored(journal)] == ["a"]  # which others have


def test_moved_members_are_of_the_new_source_only(tmp_path: Path) -> None:
    with closing(filled(tmp_path, JournalEntry("a", "a", "", "sha"), JournalEntry("b", "b", "", "sha"))) as journal:
        new = journal.add_source("moved")
        journal.begin_scan()
        journal.mark_seen(new, ["a"])
        journal.move_members(1, new)
        assert journal.unseen_members(1) == []
        assert journal.unseen_members(new) == ["b"]
        journal.begin_scan()
        assert journal.unseen_members(1) == []  # also not "a", which both had
        assert sorted(journal.unseen_members(new)) == ["a", "b"]


def test_the_row_of_a_photo_that_is_rejected_later_is_remembered(tmp_path: Path) -> None:
    with closing(filled(tmp_path, JournalEntry("a", "a", "1", "sha"))) as journal:
        journal.put([JournalEntry("a", "a", "2", reason="truncated", message="cut off")])
        (entry,) = stored(journal)
        assert (entry.content_sha, entry.stamp, entry.reason) == ("sha", "2", "truncated")
        journal.put([JournalEntry("a", "a", "3", "new")])
        assert stored(journal) == [JournalEntry("a", "a", "3", "new")]


def test_a_deleted_row_stays_deleted_until_there_is_another_content(tmp_path: Path) -> None:
    with closing(
        filled(tmp_path, JournalEntry("a", "a", "1", "sha"), JournalEntry("b", "b", "1", reason="broken"))
    ) as journal:
        journal.mark_deleted(["a", "b", "unknown"])
        assert journal.reasons() == {DELETED: 1, "broken": 1}
        journal.put([JournalEntry("a", "a", "2", reason="truncated")])
        assert (stored(journal), journal.reasons()) == ([], {DELETED: 1, "broken": 1})
        journal.remove_members(1, ["a"])
        assert journal.mark_seen(1, ["a"]).entries["a"].reason == DELETED
        journal.put([JournalEntry("a", "a", "3", "new")])
        assert [one.content_sha for one in stored(journal)] == ["new"]


def test_all_of_a_batch_or_none(tmp_path: Path) -> None:
    bad = JournalEntry("b", "b", None)  # type: ignore[arg-type] # the column takes no NULL
    with closing(filled(tmp_path)) as journal:
        with pytest.raises(DataError):
            journal.put([JournalEntry("a", "a", "", "sha"), bad])
        assert not stored(journal)
        journal.put([JournalEntry("a", "a", "", "sha")])


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with closing(filled(tmp_path)) as journal:
        journal._connection.execute("PRAGMA max_page_count = 30")
        with pytest.raises(
            DataError, match=r"cannot read or write the journal .*: database or disk is full; resolve this"
        ):
            journal.put([JournalEntry(f"{number}", "p" * 1000, "", "sha") for number in range(500)])
        assert not stored(journal)


def test_pages_of_seen_photos_are_read_by_rowid(tmp_path: Path) -> None:
    """By rowid, a page after the other: by the index of ids, each page would go through all photos that were seen."""
    statements: list[str] = []
    with closing(filled(tmp_path)) as journal:
        connection = journal._connection
        connection.set_trace_callback(statements.append)
        assert not [*journal.rejected(), *journal.readable_paths()]
        connection.set_trace_callback(None)
        selects = [sql for sql in statements if sql.startswith("SELECT")]
        plans = [" ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")) for sql in selects]
    assert len(plans) == 2
    assert all("SEARCH photos USING INTEGER PRIMARY KEY" in plan for plan in plans), plans


def test_file_names_need_not_be_utf8(tmp_path: Path) -> None:
    entry = JournalEntry("a", "caf\udce9.jpg", "", "sha")
    with closing(filled(tmp_path, entry)) as journal:
        assert stored(journal) == [entry]


def test_each_collection_has_a_journal_of_its_own(tmp_path: Path) -> None:
    filled(tmp_path, JournalEntry("a", "a", "", "sha")).close()
    with closing(Journal.open(tmp_path, "two")) as journal:
        assert not stored(journal)
    with Journal.open_if_exists(tmp_path, "three") as none:
        assert none is None
    with Journal.open_if_exists(tmp_path, "one") as one:
        assert one
        assert len(stored(one)) == 1
    assert not journal_file(tmp_path, "three").exists()


def test_two_runs_at_once_are_rejected(tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from milvus_fghash.state.journal import Journal; "
        "journal = Journal.open(Path(sys.argv[1]), 'one'); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="another process has the journal"):
            Journal.open(tmp_path, "one")
        other.kill()  # what a killed run held is free again
    Journal.open(tmp_path, "one").close()


def test_a_damaged_and_a_newer_journal_are_named(tmp_path: Path) -> None:
    file = journal_file(tmp_path, "one")
    file.write_bytes(b"this is no SQLite file, but long enough to look like one" * 100)
    with pytest.raises(DataError, match=r"is damaged \(file is not a database\); delete it"):
        Journal.open(tmp_path, "one")
    file.unlink()
    filled(tmp_path).close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match="newer milvus-fghash"):
        Journal.open(tmp_path, "one")


def used(folder: Path) -> None:
    """Open a journal and do with it what an ingest and a verification do."""
    with closing(Journal.open(folder, "one")) as journal:
        source = journal.add_source('{"photos": "/other", "part": "", "namespace": ""}')
        journal.sources()
        journal.begin_scan()
        journal.mark_seen(source, IDS)
        journal.put([JournalEntry(key, f"{key}.jpg", "2 3", "sha", "truncated") for key in IDS[40:]])
        journal.reasons()
        assert [*journal.rejected(), *journal.entries()]
        journal.begin_rows()
        journal.add_rows([("a", "b")])
        assert [*journal.without_row(), *journal.with_other_content()]
        journal.remove_members(source, journal.unseen_members(1))


IDS = [f"{number:032x}" for number in range(50)]
PAGE = 4096
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    **{f"page {page} is gone": lambda raw, at=page: raw[: at * PAGE] + bytes(PAGE) + raw[(at + 1) * PAGE :]  # type: ignore[misc]
       for page in range(0, 10, 2)},
    "the second half is gone": lambda raw: raw[: len(raw) // 2],
    "the end is gone": lambda raw: raw[:-1000],
    "a table has another name": lambda raw: raw.replace(b"TABLE photos", b"TABLE phones"),
    "a column has another name": lambda raw: raw.replace(b"stamp TEXT", b"stomp TEXT"),
    "the schema is no text": lambda raw: raw.replace(b"reason TEXT", b"re\xfason TEXT"),
    "a description is no JSON": lambda raw: raw.replace(b'{"photos"', b"{'photos'"),
    "a value is no text": lambda raw: raw.replace(b"truncated-by-copy", b"truncated\xff\xfe\xfdcopy?"),
    "it says that it is new": lambda raw: raw[:60] + bytes(4) + raw[64:],  # user_version
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_partly_damaged_journal_is_called_damaged(tmp_path: Path, damage: str) -> None:
    with closing(Journal.open(tmp_path, "one")) as journal:
        source = journal.add_source('{"photos": "/p", "part": "", "namespace": ""}')
        journal.begin_scan()
        journal.mark_seen(source, IDS)
        journal.put([JournalEntry(key, f"{key}.jpg", "1 2", "sha", message="truncated-by-copy") for key in IDS])
    file = journal_file(tmp_path, "one")
    whole = file.read_bytes()
    file.write_bytes(DAMAGES[damage](whole))
    assert file.read_bytes() != whole
    with pytest.raises(DataError, match=r"journal-one\.sqlite is damaged \(.+\); delete it, and the next run encodes"):
        used(tmp_path)
    file.write_bytes(whole)
    used(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot create the journal folder") as caught:
        Journal.open(tmp_path / "file" / "journal", "one")
    assert caught.value.setting == "journal"


def test_where_journals_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert journal_folder(ConnectionConfig("birds.db"), "photos") == tmp_path / "birds.db.journals" / "photos"
    first, second = (
        journal_folder(ConnectionConfig(f"http://host:{port}", "me:secret"), "photos") for port in (19530, 19531)
    )
    assert first.is_relative_to(tmp_path / "state" / "milvus-fghash")
    assert first != second
    assert first != journal_folder(ConnectionConfig("http://host:19530", db_name="other"), "photos")
    assert "secret" not in str(first)
