"""What Milvus has acknowledged of a catalog: one SQLite file for each collection.

FOLDER/journal.sqlite   which photos have a row in the collection, which were refused, and of what state of their file
FOLDER/runs/TIME.json   one record for each run, see `run_record`

A photo is written down after Milvus has said that its row is in, never before: whoever is killed in between writes the
same row again under the same id, and nothing is lost. The file is held by one process at a time. It can be deleted:
the next run then encodes everything again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from milvus_fghash.errors import ConfigError, DataError

FILE: Final = "journal.sqlite"
VERSION: Final = 1
SCHEMA: Final = """
CREATE TABLE about (born TEXT NOT NULL);
CREATE TABLE sources (number INTEGER PRIMARY KEY, description TEXT NOT NULL UNIQUE);
CREATE TABLE photos (
    id TEXT NOT NULL UNIQUE,
    source INTEGER NOT NULL REFERENCES sources (number),
    path BLOB NOT NULL,
    stamp TEXT NOT NULL,
    content_sha TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX photos_of_source ON photos (source);
"""
COLUMNS: Final = "id, path, stamp, content_sha, reason, message"
DELETED: Final = "deleted"
"""Reason of a photo whose row was deleted on purpose. It is not counted among the refused ones."""
MOST_IDS: Final = 500
"""Of one SQL statement; SQLite takes 999 and more."""


@dataclass(frozen=True)
class Entry:
    """One photo, as the journal knows it.

    Attributes:
        id: primary key of its row.
        path: as in the listing.
        stamp: state of the file, and of what the listing says of it, when it was looked at last.
        content_sha: SHA-256 of the content whose code stands in the collection; "" when it has no row.
        reason: why the file was refused when it was looked at last, in one word; "" when it was not.
        message: the same in one sentence.
    """

    id: str
    path: str
    stamp: str
    content_sha: str = ""
    reason: str = ""
    message: str = ""


class Journal:
    """An open journal. Threads may share it."""

    def __init__(self, folder: Path | None, connection: sqlite3.Connection) -> None:
        self.folder, self._connection, self._lock = folder, connection, threading.Lock()

    @classmethod
    def in_memory(cls) -> Self:
        """For a run that leaves no journal."""
        journal = cls(None, sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None))
        journal._begin_anew("")
        return journal

    @classmethod
    def open(cls, folder: Path, born: str) -> Self:
        """Open or make the journal of a collection, and hold it until `close`.

        Args:
            born: what tells the collection from an earlier one of its name; the journal of another one is emptied.

        Raises:
            ConfigError: when another process holds it.
            DataError: when it is damaged, made by a newer version, or the disk refuses.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make the folder of the journal {folder}: {error.strerror}") from None
        with _told(folder):
            connection = sqlite3.connect(folder / FILE, timeout=0.5, check_same_thread=False, isolation_level=None)
        try:
            with _told(folder):
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")  # a power cut loses the last batches, no more
                connection.execute("BEGIN IMMEDIATE")  # takes the lock, which stays
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                same = version and connection.execute("SELECT born FROM about").fetchone() == (born,)
                connection.execute("COMMIT")
            if version > VERSION:
                raise DataError(f"the journal {folder} was made by a newer milvus-fghash; use that, or delete it")
            journal = cls(folder, connection)
            if same:
                journal._forget_seen()
            else:
                journal._begin_anew(born)
        except BaseException:
            connection.close()
            raise
        return journal

    @classmethod
    @contextmanager
    def if_there(cls, folder: Path, born: str) -> Iterator[Self | None]:
        """`open` for a ``with`` block, where the collection has a journal; raises as that."""
        if not (folder / FILE).exists():
            yield None
            return
        journal = cls.open(folder, born)
        try:
            yield journal
        finally:
            journal.close()

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()

    def _begin_anew(self, born: str) -> None:
        with self.transaction() as connection:
            for table in ("photos", "sources", "about"):
                connection.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO about VALUES (?)", (born,))
            connection.execute(f"PRAGMA user_version = {VERSION}")
        self._forget_seen()

    def _forget_seen(self) -> None:
        with self.transaction() as connection:
            connection.execute("DROP TABLE IF EXISTS temp.seen")
            connection.execute("CREATE TEMP TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def source(self, description: str) -> int:
        """The number of a source of photos, new or known."""
        with self.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO sources (description) VALUES (?)", (description,))
            row = connection.execute("SELECT number FROM sources WHERE description = ?", (description,)).fetchone()
        return int(row[0])

    def sources(self) -> list[str]:
        """Descriptions of all sources."""
        with self.transaction() as connection:
            return [row[0] for row in connection.execute("SELECT description FROM sources")]

    def see(self, source: int, ids: Sequence[str]) -> tuple[dict[str, Entry], list[bool]]:
        """Note that the listing has these photos.

        Returns:
            What is known of those that are, by id; they belong to ``source`` from now on. And for each id whether this
            run has seen it before, in which case one photo is listed twice.
        """
        known: dict[str, Entry] = {}
        with self.transaction() as connection:
            for start in range(0, len(ids), MOST_IDS):
                part = ids[start : start + MOST_IDS]
                marks = ",".join("?" * len(part))
                found = connection.execute(f"SELECT {COLUMNS} FROM photos WHERE id IN ({marks})", part)
                known |= {row[0]: _entry(row) for row in found}
                connection.execute(
                    f"UPDATE photos SET source = ? WHERE source != ? AND id IN ({marks})", (source, source, *part)
                )
            insert = "INSERT OR IGNORE INTO seen VALUES (?)"
            again = [connection.execute(insert, (key,)).rowcount == 0 for key in ids]
        return known, again

    def put(self, source: int, entries: Sequence[Entry]) -> None:
        """Write down what became of photos, all or none.

        Of one that is refused now and was stored before, the row is still in the collection, so its content_sha stays.

        Raises:
            DataError: when the disk refuses.
        """
        rows = [
            (one.id, source, _bytes(one.path), one.stamp, one.content_sha, one.reason, one.message) for one in entries
        ]
        with self.transaction() as connection:
            connection.executemany(
                "INSERT INTO photos VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                "source = excluded.source, path = excluded.path, stamp = excluded.stamp, reason = excluded.reason, "
                "message = excluded.message, "
                "content_sha = iif(excluded.content_sha = '', content_sha, excluded.content_sha)",
                rows,
            )

    def forget(self, ids: Sequence[str]) -> None:
        """Photos that no longer have a row: the next run takes them for new."""
        with self.transaction() as connection:
            connection.executemany("DELETE FROM photos WHERE id = ?", [(key,) for key in ids])

    def mark_deleted(self, ids: Sequence[str]) -> None:
        """Rows that someone deleted on purpose: their photos are not taken in again until they change."""
        with self.transaction() as connection:
            connection.executemany(
                "UPDATE photos SET content_sha = '', reason = ?, message = '' WHERE id = ?",
                [(DELETED, key) for key in ids],
            )

    def refused(self) -> Iterator[Entry]:
        """Photos of this run that are refused, in the order in which they became known."""
        return self.entries("reason NOT IN ('', ?) AND id IN (SELECT id FROM seen)", DELETED)

    def reasons(self) -> dict[str, int]:
        """Reason -> number of photos of this run that are refused for it."""
        those = "reason NOT IN ('', ?) AND id IN (SELECT id FROM seen)"
        with self.transaction() as connection:
            return dict(
                connection.execute(f"SELECT reason, count(*) FROM photos WHERE {those} GROUP BY reason", (DELETED,))
            )

    def vanished(self, source: int) -> Iterator[Entry]:
        """Photos that a source had once and that this run has not seen; ask when all of the listing has been seen."""
        return self.entries("source = ? AND id NOT IN (SELECT id FROM seen)", source)

    def stored(self) -> Iterator[Entry]:
        """Photos of all sources that have a row."""
        return self.entries("content_sha != ''")

    def entries(self, where: str, *values: Any) -> Iterator[Entry]:
        """Those that fit a condition of SQL, in the order in which they became known.

        A page at a time, so that a catalog of any size takes little memory, and others may write in between.
        """
        last = 0
        sql = f"SELECT {COLUMNS}, rowid FROM photos WHERE rowid > ? AND {where} ORDER BY rowid LIMIT {MOST_IDS}"
        while True:
            with self.transaction() as connection:
                rows = connection.execute(sql, (last, *values)).fetchall()
            yield from map(_entry, rows)
            if len(rows) < MOST_IDS:
                return
            last = rows[-1][-1]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing; other threads wait meanwhile. For `Journal` and `journal_rows`."""
        with self._lock, _told(self.folder):
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def _entry(row: Sequence[Any]) -> Entry:
    key, path, *others = row[:6]
    return Entry(key, path.decode("utf-8", "surrogateescape"), *others)


def _bytes(path: str) -> bytes:
    """File names need not be UTF-8."""
    return path.encode("utf-8", "surrogateescape")


@contextmanager
def _told(folder: Path | None) -> Iterator[None]:
    """What SQLite raises, as one line that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        said = str(error)
        if "locked" in said:
            raise ConfigError(
                f"another run is writing to this collection: it holds the journal {folder}; wait until it is done"
            ) from None
        if isinstance(error, sqlite3.OperationalError):
            raise DataError(
                f"cannot write the journal {folder}: {said}; mend that, and the same command goes on"
            ) from None
        raise DataError(
            f"the journal {folder} is damaged ({said}); delete it, and all photos are encoded again"
        ) from None
