"""What Milvus has acknowledged of a catalog: one SQLite file for each collection.

FOLDER/journal-BORN.sqlite   which photos have a row, which were rejected, and of what state of their file; BORN tells
                             the collection from others and from dropped ones of its name
FOLDER/runs/TIME.json        one record for each run, see `run_record`

A photo is written down after Milvus has said that its row is in, never before: whoever is killed in between writes the
same row again under the same id, and nothing is lost. The file is held by one process at a time. It can be deleted:
the next run then encodes everything again, photos whose rows were deleted on purpose too.
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

VERSION: Final = 1
DELETED: Final = "deleted"
"""Reason of a photo whose row was deleted on purpose. It is not counted among the rejected ones."""
HAS_ROW: Final = f"content_sha != '' AND reason != '{DELETED}'"
"""Condition of SQL for photos that have a row in the collection."""
SCHEMA: Final = """
CREATE TABLE sources (number INTEGER PRIMARY KEY, description TEXT NOT NULL UNIQUE);
CREATE TABLE photos (
    id TEXT NOT NULL UNIQUE,
    path BLOB NOT NULL,
    stamp TEXT NOT NULL,
    content_sha TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX refused_photos ON photos (reason) WHERE reason != '';
CREATE TABLE members (source INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (source, id)) WITHOUT ROWID;
CREATE INDEX members_by_id ON members (id);
"""
COLUMNS: Final = "id, path, stamp, content_sha, reason, message"
MOST_IDS: Final = 500
"""Of one SQL statement; SQLite takes 999 values and more."""
MOST_ROWS: Final = 150
"""Of six values, in one statement."""
HELD: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""What SQLite says where another process has the file open."""
REJECTED_BY_DISK: Final = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_NOLFS,
}  # fmt: skip
"""What it says where the file may be whole. Anything else means that the file is not what this module wrote."""


@dataclass(frozen=True)
class Entry:
    """One photo, as the journal knows it.

    Attributes:
        id: primary key of its row.
        path: as in the listing.
        stamp: state of the file, and of what the listing says of it, when it was looked at last.
        content_sha: SHA-256 of the content whose code stands in the collection, or stood there before it was deleted on
            purpose; "" when there never was a row.
        reason: why the file was rejected when it was looked at last, in one word, or `DELETED`; "" when all is well.
        message: the same in one sentence.
    """

    id: str
    path: str
    stamp: str
    content_sha: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class JournalLookup:
    """What the journal says of some photos of a listing.

    Attributes:
        known: id -> entry, of those that it knows.
        again: for each id, whether this run has seen it before: one photo is listed twice.
    """

    known: dict[str, Entry]
    again: list[bool]


class Journal:
    """An open journal. Threads may share it."""

    def __init__(self, file: Path | None, connection: sqlite3.Connection) -> None:
        self._file, self._connection, self._lock = file, connection, threading.Lock()

    @property
    def folder(self) -> Path | None:
        """Where it lies; None of one in memory."""
        return self._file and self._file.parent

    @classmethod
    def in_memory(cls) -> Self:
        """For a run that leaves no journal."""
        journal = cls(None, sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None))
        journal._make()
        return journal

    @classmethod
    def open(cls, folder: Path, born: str) -> Self:
        """Open or make the journal of a collection, and hold it until `close`.

        Args:
            born: what tells the collection from others.

        Raises:
            ConfigError: when another process has it open.
            DataError: when it is damaged, made by a newer version, or the disk rejects.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:  # ValueError: no folder can be called that
            why = error.strerror if isinstance(error, OSError) else error
            raise DataError(
                f"cannot make the folder of the journal {folder}: {why}; name a folder that can be written",
                setting="journal",
            ) from None
        file = journal_file(folder, born)
        try:
            with _told(file):
                connection = sqlite3.connect(file, timeout=0.5, check_same_thread=False, isolation_level=None)
        except ValueError as error:
            raise DataError(f"no journal can be called {str(file)!r}: {error}") from None
        try:
            with _told(file):
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")  # a power cut loses what is not checkpointed yet
                # 64 MB, which is some 16,000 rows of a large catalog: ids lie anywhere, and each row writes a page
                connection.execute("PRAGMA wal_autocheckpoint = 16000")
                connection.execute("BEGIN IMMEDIATE")  # takes the lock, which stays
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                connection.execute("COMMIT")
            if version > VERSION:
                raise DataError(f"the journal {file} was made by a newer milvus-fghash; use that, or delete it")
            journal = cls(file, connection)
            if not version:
                journal._make()
        except BaseException:
            connection.close()
            raise
        return journal

    @classmethod
    @contextmanager
    def if_there(cls, folder: Path, born: str) -> Iterator[Self | None]:
        """`open` for a ``with`` block, where the collection has a journal; raises as that."""
        if not journal_file(folder, born).exists():
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

    def _make(self) -> None:
        with self.transaction() as connection:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    def begin_listing(self) -> None:
        """Forget which photos were seen: a listing begins."""
        with self.transaction() as connection:
            connection.execute("DROP TABLE IF EXISTS temp.seen")
            connection.execute("CREATE TEMP TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def source(self, description: str) -> int:
        """The number of a source of photos, new or known."""
        with self.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO sources (description) VALUES (?)", (description,))
            row = connection.execute("SELECT number FROM sources WHERE description = ?", (description,)).fetchone()
        return int(row[0])

    def see(self, source: int, ids: Sequence[str]) -> JournalLookup:
        """Note that the listing of a source has these photos; they are its members from now on."""
        with self.transaction() as connection:
            known = _known(connection, ids)
            connection.executemany("INSERT OR IGNORE INTO members VALUES (?, ?)", [(source, key) for key in ids])
            insert = "INSERT OR IGNORE INTO seen VALUES (?)"
            again = [connection.execute(insert, (key,)).rowcount == 0 for key in ids]
        return JournalLookup(known, again)

    def known(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Id -> entry, of those that it knows."""
        with self.transaction() as connection:
            return _known(connection, ids)

    def put(self, entries: Sequence[Entry]) -> None:
        """Write down what became of photos, all or none.

        Of one that is rejected now and was stored before, the row is still in the collection, so its content_sha stays;
        one that was deleted stays deleted.

        Raises:
            DataError: when the disk rejects.
        """
        rows = [(one.id, _bytes(one.path), one.stamp, one.content_sha, one.reason, one.message) for one in entries]
        with self.transaction() as connection:
            for start in range(0, len(rows), MOST_ROWS):  # not one by one: each waits for the other threads of Python
                part = rows[start : start + MOST_ROWS]
                connection.execute(
                    f"INSERT INTO photos VALUES {','.join(['(?, ?, ?, ?, ?, ?)'] * len(part))} ON CONFLICT (id) DO "
                    "UPDATE SET path = excluded.path, stamp = excluded.stamp, message = excluded.message, "
                    f"reason = iif(excluded.content_sha = '' AND reason = '{DELETED}', reason, excluded.reason), "
                    "content_sha = iif(excluded.content_sha = '', content_sha, excluded.content_sha)",
                    [value for row in part for value in row],
                )

    def forget(self, ids: Sequence[str]) -> None:
        """Photos that no longer have a row: the next run takes them for new."""
        with self.transaction() as connection:
            connection.executemany("DELETE FROM photos WHERE id = ?", [(key,) for key in ids])

    def mark_deleted(self, ids: Sequence[str]) -> None:
        """Rows that someone deletes on purpose: their photos are not taken in again until their content changes."""
        sql = f"UPDATE photos SET reason = '{DELETED}', message = '' WHERE content_sha != '' AND id = ?"
        with self.transaction() as connection:
            connection.executemany(sql, [(key,) for key in ids])

    def rejected(self) -> Iterator[Entry]:
        """Photos of this listing that are rejected, in the order in which they became known."""
        return self.entries(f"reason NOT IN ('', '{DELETED}') AND +id IN (SELECT id FROM seen)")

    def reasons(self) -> dict[str, int]:
        """Reason -> number of photos of this listing that are rejected for it, or whose row was deleted."""
        those = "reason != '' AND +id IN (SELECT id FROM seen)"
        with self.transaction() as connection:
            return dict(connection.execute(f"SELECT reason, count(*) FROM photos WHERE {those} GROUP BY reason"))

    def entries(self, where: str, *values: Any) -> Iterator[Entry]:
        """Those that fit a condition of SQL, in the order in which they became known.

        A page at a time, so that a catalog of any size takes little memory, and others may write in between.
        """
        last = 0
        sql = f"SELECT {COLUMNS}, rowid FROM photos WHERE rowid > ? AND {where} ORDER BY rowid LIMIT {MOST_IDS}"
        while True:
            with self.transaction() as connection:
                rows = connection.execute(sql, (last, *values)).fetchall()
                found = list(map(_entry, rows))
            yield from found
            if len(rows) < MOST_IDS:
                return
            last = rows[-1][-1]

    def among(self, ids: Sequence[str], sql: str) -> set[str]:
        """Ids that a statement of SQL gives when those asked about are put behind it, in brackets."""
        found: set[str] = set()
        with self.transaction() as connection:
            for start in range(0, len(ids), MOST_IDS):
                part = ids[start : start + MOST_IDS]
                found |= {row[0] for row in connection.execute(f"{sql} ({','.join('?' * len(part))})", part)}
        return found

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing; other threads wait meanwhile. For this part's own files."""
        with self._lock, _told(self._file):
            try:
                self._connection.execute("BEGIN")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # of a full disk, SQLite has rolled back already
                    self._connection.execute("ROLLBACK")
                raise


_SELECT: Final = f"SELECT {COLUMNS} FROM photos"


def journal_file(folder: Path, born: str) -> Path:
    """Where the journal of a collection lies."""
    return folder / f"journal-{born or 'unnamed'}.sqlite"


def _known(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, Entry]:
    known: dict[str, Entry] = {}
    for start in range(0, len(ids), MOST_IDS):
        part = ids[start : start + MOST_IDS]
        rows = connection.execute(f"{_SELECT} WHERE id IN ({','.join('?' * len(part))})", part)
        known |= {row[0]: _entry(row) for row in rows}
    return known


def _entry(row: Sequence[Any]) -> Entry:
    key, path, *others = row[:6]
    if not isinstance(path, bytes) or not all(isinstance(one, str) for one in (key, *others)):
        raise sqlite3.DatabaseError("a photo has a value of another type")
    return Entry(key, path.decode("utf-8", "surrogateescape"), *others)


def _bytes(path: str) -> bytes:
    """File names need not be UTF-8."""
    return path.encode("utf-8", "surrogateescape")


@contextmanager
def _told(file: Path | None) -> Iterator[None]:
    """What SQLite raises, as one line that says what to do."""
    try:
        yield
    except UnicodeDecodeError as error:  # raised where the words of SQLite hold bytes of a damaged file
        raise _damaged(file, error.object.decode(errors="backslashreplace")) from None
    except UnicodeEncodeError as error:
        raise DataError(f"the journal {file} cannot hold a text that is no UTF-8: {error}") from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)  # what Python itself finds wrong with a value has none
        kind = None if code in (None, sqlite3.SQLITE_IOERR_SHORT_READ) else code & 0xFF
        if kind in HELD:
            raise ConfigError(
                f"another process has the journal {file} open, most likely a run into this collection; wait for it"
            ) from None
        if kind in REJECTED_BY_DISK:
            raise DataError(f"cannot read or write the journal {file}: {error}; repair that, and go on") from None
        raise _damaged(file, str(error)) from None


def _damaged(file: Path | None, why: str) -> DataError:
    return DataError(
        f"the journal {file} is damaged ({why}); delete it, and the next run encodes all photos again, also those "
        "whose rows were deleted on purpose"
    )
