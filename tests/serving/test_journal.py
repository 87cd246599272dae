"""The journal: what it keeps, whose it is, and what it says when it cannot."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.serving.journal import MOST_IDS, Entry, Journal
from milvus_fghash.serving.target import Target, journal_folder


def filled(folder: Path, *entries: Entry, born: str = "one") -> Journal:
    journal = Journal.open(folder, born)
    journal.put(journal.source("photos"), entries)
    return journal


def test_what_was_put_is_known_after_closing(tmp_path: Path) -> None:
    stored, refused = Entry("a", "1.jpg", "10 20", "sha"), Entry("b", "2.jpg", "30 40", reason="broken", message="no")
    with closing(filled(tmp_path, stored, refused)):
        pass
    with closing(Journal.open(tmp_path, "one")) as journal:
        assert journal.see(journal.source("photos"), ["a", "b", "c"]) == (
            {"a": stored, "b": refused},
            [False, False, False],
        )
        assert list(journal.stored()) == [stored]
        assert list(journal.refused()) == [refused]
        assert journal.reasons() == {"broken": 1}


def test_more_photos_than_one_page(tmp_path: Path) -> None:
    entries = [Entry(f"{number:05}", f"{number}.jpg", "", "sha") for number in range(2 * MOST_IDS + 3)]
    with closing(filled(tmp_path, *entries)) as journal:
        assert list(journal.stored()) == entries
        known, _ = journal.see(1, [one.id for one in entries])
        assert len(known) == len(entries)
        assert not list(journal.vanished(1))


def test_a_photo_seen_twice_in_one_run_is_told_apart(tmp_path: Path) -> None:
    with closing(Journal.open(tmp_path, "one")) as journal:
        assert journal.see(1, ["a", "b", "a"])[1] == [False, False, True]
        assert journal.see(1, ["b", "c"])[1] == [True, False]


def test_seen_is_of_one_run(tmp_path: Path) -> None:
    with closing(filled(tmp_path, Entry("a", "a", "", "sha"))) as journal:
        journal.see(1, ["a"])
        assert not list(journal.vanished(1))
    with closing(Journal.open(tmp_path, "one")) as journal:
        assert [one.id for one in journal.vanished(1)] == ["a"]


def test_vanished_is_asked_of_one_source_and_photos_move_with_their_listing(tmp_path: Path) -> None:
    with closing(filled(tmp_path, Entry("a", "a", "", "sha"), Entry("b", "b", "", "sha"))) as journal:
        old, new = journal.source("photos"), journal.source("moved")
        journal.see(new, ["a"])
        assert [one.id for one in journal.vanished(old)] == ["b"]
        assert not list(journal.vanished(new))


def test_the_row_of_a_photo_that_is_refused_later_is_remembered(tmp_path: Path) -> None:
    with closing(filled(tmp_path, Entry("a", "a", "1", "sha"))) as journal:
        journal.put(1, [Entry("a", "a", "2", reason="truncated", message="cut off")])
        (entry,) = journal.stored()
        assert (entry.content_sha, entry.stamp, entry.reason) == ("sha", "2", "truncated")
        journal.put(1, [Entry("a", "a", "3", "new")])
        assert list(journal.stored()) == [Entry("a", "a", "3", "new")]


def test_all_of_a_batch_or_none(tmp_path: Path) -> None:
    bad = Entry("b", "b", None)  # type: ignore[arg-type] # the column takes no NULL
    with closing(Journal.open(tmp_path, "one")) as journal:
        with pytest.raises(DataError):
            journal.put(journal.source("photos"), [Entry("a", "a", "", "sha"), bad])
        assert not list(journal.stored())


def test_file_names_need_not_be_utf8(tmp_path: Path) -> None:
    entry = Entry("a", "caf\udce9.jpg", "", "sha")
    with closing(filled(tmp_path, entry)) as journal:
        assert list(journal.stored()) == [entry]


def test_a_collection_made_anew_begins_an_empty_journal(tmp_path: Path) -> None:
    filled(tmp_path, Entry("a", "a", "", "sha")).close()
    with closing(Journal.open(tmp_path, "two")) as journal:
        assert not list(journal.stored())


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from milvus_fghash.serving.journal import Journal; "
        "journal = Journal.open(Path(sys.argv[1]), 'one'); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="another run is writing to this collection"):
            Journal.open(tmp_path, "one")
        other.kill()  # what a killed run held is free again
    Journal.open(tmp_path, "one").close()


def test_a_damaged_and_a_newer_journal_are_named(tmp_path: Path) -> None:
    file = tmp_path / "journal.sqlite"
    file.write_bytes(b"this is no SQLite file, but long enough to look like one" * 100)
    with pytest.raises(DataError, match=r"is damaged \(file is not a database\); delete it"):
        Journal.open(tmp_path, "one")
    file.unlink()
    filled(tmp_path).close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match="newer milvus-fghash"):
        Journal.open(tmp_path, "one")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make the folder of the journal"):
        Journal.open(tmp_path / "file" / "journal", "one")


def test_where_journals_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert journal_folder(Target("birds.db"), "photos") == tmp_path / "birds.db.journals" / "photos"
    first, second = (journal_folder(Target(f"http://host:{port}", "me:secret"), "photos") for port in (19530, 19531))
    assert first.is_relative_to(tmp_path / "state" / "milvus-fghash")
    assert first != second
    assert first != journal_folder(Target("http://host:19530", db_name="other"), "photos")
    assert "secret" not in str(first)
