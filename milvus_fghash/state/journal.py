"""The ingest journal: which photos have a row in a collection, one SQLite file per collection.

FOLDER/journal-UID.sqlite   the photos with a row, the rejected photos, and the state of each file; UID is the
                            `collection_uid`, which differs for a collection that was dropped and created again
FOLDER/runs/TIME.json       one record per run, see `run_record`

A photo is recorded after Milvus has acknowledged its row, never before: after a crash in between, the next run writes
the same row again under the same id, and nothing is lost. One process at a time holds the file. The file may be
deleted: the next run then encodes all photos again, including those whose rows were deleted on purpose. An empty file
counts as a new one, for that is what a kill leaves between the creation of the file and that of its tables.

All SQL of the journal is in this file.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from milvus_fghash.errors import ConfigError, DataError

T = TypeVar("T")

SCHEMA_VERSION: Final = 1
DELETED: Final = "deleted"
"""Reason of a photo whose row was deleted on purpose. Such photos are not counted as rejected."""
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
MAX_IDS_PER_STATEMENT: Final = 500
"""SQLite accepts at least 999 values in one statement."""
MAX_ROWS_PER_INSERT: Final = 150
"""Rows of six values."""

_COLUMNS: Final = "id, path, stamp, content_sha, reason, message"
_HAS_ROW: Final = f"content_sha != '' AND reason != '{DELETED}'"
_WAS_SEEN: Final = "+id IN (SELECT id FROM seen)"
"""The plus keeps SQLite from the index of ids, by which each page would go through all photos that were seen."""
_SOURCE_KEYS: Final = {"photos", "part", "namespace"}
_LOCKED_CODES: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""Error codes of SQLite when another process holds the file."""
_DISK_CODES: Final = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_NOLFS,
}  # fmt: skip
"""Error codes after which the file may be intact. Any other code means that the file is damaged."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What the journal knows of one photo.

    Attributes:
        id: primary key of its row.
        path: as in the dataset.
        stamp: revision of the file and digest of the dataset's facts about it, when it was last examined.
        content_sha: SHA-256 of the content whose code is in the collection, or was before the row was deleted on
            purpose; "" if there never was a row.
        reason: one word for why the file was last rejected, or `DELETED`; "" if it was accepted.
        message: the reason as a sentence.
    """

    id: str
    path: str
    stamp: str
    content_sha: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class JournalLookup:
    """What the journal knows of some photos of a dataset.

    Attributes:
        entries: id -> entry, of the known photos.
        repeated: for each id, whether this scan has seen it before: the dataset lists the photo twice.
    """

    entries: dict[str, JournalEntry]
    repeated: list[bool]


class Journal:
    """An open journal. It may be shared by threads.

    Methods that refer to photos that were *seen* mean those of the scan that `begin_scan` began.

    Every method raises `DataError` when the file is damaged or the disk rejects an operation.
    """

    def __init__(self, file: Path | None, connection: sqlite3.Connection) -> None:
        self._file, self._connection, self._lock = file, connection, threading.Lock()

    @classmethod
    def in_memory(cls) -> Self:
        """A journal for a run that keeps none."""
        journal = cls(None, sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None))
        journal._create_tables()
        return journal

    @classmethod
    def open(cls, folder: Path, collection_uid: str) -> Self:
        """Open or create the journal of a collection, and hold it until `close`.

        Raises:
            ConfigError: if another process holds it.
            DataError: if it is damaged, was made by a newer version, or cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:  # ValueError: no folder can have this name
            why = error.strerror if isinstance(error, OSError) else error
            raise DataError(
                f"cannot create the journal folder {folder}: {why}; choose a folder that can be written",
                setting="journal",
            ) from None
        file = journal_file(folder, collection_uid)
        try:
            with _sqlite_errors(file):
                connection = sqlite3.connect(file, timeout=0.5, check_same_thread=False, isolation_level=None)
        except ValueError as error:
            raise DataError(f"{str(file)!r} cannot be the name of a journal: {error}") from None
        journal = cls(file, connection)
        try:
            journal._acquire()
        except BaseException:
            connection.close()
            raise
        return journal

    @classmethod
    @contextmanager
    def open_if_exists(cls, folder: Path, collection_uid: str) -> Iterator[Self | None]:
        """`open` in a ``with`` block; None if the collection has no journal."""
        if not journal_file(folder, collection_uid).exists():
            yield None
            return
        journal = cls.open(folder, collection_uid)
        try:
            yield journal
        finally:
            journal.close()

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    @property
    def folder(self) -> Path | None:
        """The folder of the file; None in memory."""
        return self._file and self._file.parent

    def _acquire(self) -> None:
        """Take the lock, and create the tables of a new file."""
        connection = self._connection
        with _sqlite_errors(self._file):
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # a power cut loses what is not checkpointed yet
            # 64 MB, some 16,000 rows of a large catalog: ids are scattered, so each row writes a page
            connection.execute("PRAGMA wal_autocheckpoint = 16000")
            connection.execute("BEGIN IMMEDIATE")  # takes the lock, which is kept
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute("COMMIT")
        if version > SCHEMA_VERSION:
            raise DataError(
                f"the journal {self._file} was made by a newer milvus-fghash; use that version, or delete the file"
            )
        if not version:
            self._create_tables()

    def _create_tables(self) -> None:
        with self._transaction() as connection:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    # Entries

    def get(self, ids: Sequence[str]) -> dict[str, JournalEntry]:
        """Id -> entry, of the known photos."""
        with self._transaction() as connection:
            return _entries_by_id(connection, ids)

    def put(self, entries: Sequence[JournalEntry]) -> None:
        """Record the outcome for photos, all or none.

        If a photo had a row and is now rejected, its row is still in the collection, so its content_sha is kept. A
        deleted photo stays deleted until an entry has another content.
        """
        rows = [(one.id, _path_bytes(one.path), one.stamp, one.content_sha, one.reason, one.message) for one in entries]
        with self._transaction() as connection:
            # one statement for many rows: after each, the other threads of Python get their turn
            for part in _parts(rows, MAX_ROWS_PER_INSERT):
                connection.execute(
                    f"INSERT INTO photos VALUES {','.join(['(?, ?, ?, ?, ?, ?)'] * len(part))} ON CONFLICT (id) DO "
                    "UPDATE SET path = excluded.path, stamp = excluded.stamp, message = excluded.message, "
                    f"reason = iif(excluded.content_sha = '' AND reason = '{DELETED}', reason, excluded.reason), "
                    "content_sha = iif(excluded.content_sha = '', content_sha, excluded.content_sha)",
                    [value for row in part for value in row],
                )

    def forget(self, ids: Sequence[str]) -> None:
        """Remove the entries of photos: the next run treats them as new."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM photos WHERE id = ?", [(key,) for key in ids])

    def mark_deleted(self, ids: Sequence[str]) -> None:
        """Record rows as deleted on purpose: their photos are not ingested again until their content changes."""
        sql = f"UPDATE photos SET reason = '{DELETED}', message = '' WHERE content_sha != '' AND id = ?"
        with self._transaction() as connection:
            connection.executemany(sql, [(key,) for key in ids])

    def entries(self, reason: str | None = None) -> Iterator[JournalEntry]:
        """All entries, or those with a reason, in the order in which they were first recorded."""
        return self._entries("true") if reason is None else self._entries("reason = ?", reason)

    def rejected(self) -> Iterator[JournalEntry]:
        """Photos that were seen and are rejected, in the order in which they were first recorded."""
        return self._entries(f"reason NOT IN ('', '{DELETED}') AND {_WAS_SEEN}")

    def reasons(self) -> dict[str, int]:
        """Reason -> number of photos that were seen and are rejected, or deleted, for it."""
        sql = f"SELECT reason, count(*) FROM photos WHERE reason != '' AND {_WAS_SEEN} GROUP BY reason"
        with self._transaction() as connection:
            return dict(connection.execute(sql))

    def acknowledged(self, ids: Sequence[str]) -> set[str]:
        """The ids of photos that should have a row."""
        return self._among(ids, f"SELECT id FROM photos WHERE {_HAS_ROW} AND")

    def count_acknowledged(self) -> int:
        """Number of photos of all sources that should have a row."""
        with self._transaction() as connection:
            return int(connection.execute(f"SELECT count(*) FROM photos WHERE {_HAS_ROW}").fetchone()[0])

    # The photos of a scan

    def begin_scan(self) -> None:
        """Begin a scan of a dataset: no photo was seen yet."""
        with self._transaction() as connection:
            connection.execute("DROP TABLE IF EXISTS temp.seen")
            connection.execute("CREATE TEMP TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def mark_seen(self, source: int, ids: Sequence[str]) -> JournalLookup:
        """Record that the dataset of a source has these photos, as its members, and look them up."""
        insert = "INSERT OR IGNORE INTO seen VALUES (?)"
        with self._transaction() as connection:
            entries = _entries_by_id(connection, ids)
            connection.executemany("INSERT OR IGNORE INTO members VALUES (?, ?)", [(source, key) for key in ids])
            repeated = [connection.execute(insert, (key,)).rowcount == 0 for key in ids]
        return JournalLookup(entries, repeated)

    def seen(self, ids: Sequence[str]) -> set[str]:
        """The ids that were seen."""
        return self._among(ids, "SELECT id FROM seen WHERE")

    def seen_not_deleted(self, ids: Sequence[str]) -> set[str]:
        """The ids that were seen and whose row was not deleted on purpose."""
        return self.seen(ids) - self._among(ids, f"SELECT id FROM photos WHERE reason = '{DELETED}' AND")

    def readable_paths(self) -> Iterator[str]:
        """Paths of the photos that were seen and could be read in this or an earlier run."""
        return (entry.path for entry in self._entries(f"content_sha != '' AND {_WAS_SEEN}"))

    # Sources, and which photos belong to them

    def add_source(self, description: str) -> int:
        """The number of a source of photos, which may be known already."""
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO sources (description) VALUES (?)", (description,))
            row = connection.execute("SELECT number FROM sources WHERE description = ?", (description,)).fetchone()
        return int(row[0])

    def sources(self) -> dict[int, dict[str, str]]:
        """Number -> description (`photos`, `part`, `namespace`) of all sources."""
        with self._transaction() as connection:
            return {number: _source(text) for number, text in connection.execute("SELECT * FROM sources")}

    def members_of_any(self, sources: Sequence[int], ids: Sequence[str]) -> set[str]:
        """The ids that are members of at least one of the sources."""
        numbers = ",".join(str(int(number)) for number in sources)
        return self._among(ids, f"SELECT id FROM members WHERE source IN ({numbers}) AND")

    def members_of_others(self, source: int, ids: Sequence[str]) -> set[str]:
        """The ids that are members of a source other than this one."""
        return self._among(ids, f"SELECT id FROM members WHERE source != {int(source)} AND")

    def unseen_members(self, source: int) -> list[str]:
        """Ids of the members of a source that were not seen; meaningful at the end of a scan."""
        sql = "SELECT id FROM members WHERE source = ? AND id NOT IN (SELECT id FROM seen)"
        with self._transaction() as connection:
            return [row[0] for row in connection.execute(sql, (source,))]

    def seen_fraction(self, source: int) -> float:
        """Fraction of the members of a source that were seen, 0 to 1."""
        sql = "SELECT count(*), coalesce(sum(id IN (SELECT id FROM seen)), 0) FROM members WHERE source = ?"
        with self._transaction() as connection:
            n, n_seen = connection.execute(sql, (source,)).fetchone()
        return n_seen / n if n else 0.0

    def remove_members(self, source: int, ids: Sequence[str]) -> None:
        """Remove members of a source. Entries that no source has any more are removed, except deleted ones."""
        orphan = "NOT EXISTS (SELECT 1 FROM members WHERE members.id = photos.id)"
        with self._transaction() as connection:
            connection.executemany("DELETE FROM members WHERE source = ? AND id = ?", [(source, key) for key in ids])
            connection.executemany(
                f"DELETE FROM photos WHERE id = ? AND reason != '{DELETED}' AND {orphan}", [(key,) for key in ids]
            )

    def move_members(self, old: int, new: int) -> None:
        """Make all members of one source members of another."""
        with self._transaction() as connection:
            connection.execute("UPDATE OR IGNORE members SET source = ? WHERE source = ?", (new, old))
            connection.execute("DELETE FROM members WHERE source = ?", (old,))

    def replace_class_rule(self, source: int, rule: str) -> str | None:
        """Record where the classes of a source are read from, and return the rule before; None if there was none."""
        with self._transaction() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS class_rules (source INTEGER PRIMARY KEY, rule TEXT NOT NULL)"
            )
            row = connection.execute("SELECT rule FROM class_rules WHERE source = ?", (source,)).fetchone()
            connection.execute("INSERT OR REPLACE INTO class_rules VALUES (?, ?)", (source, rule))
        return str(row[0]) if row else None

    # Comparison with the rows of the collection, in a temporary table

    def begin_rows(self) -> None:
        """Begin a comparison with the rows of the collection: none was added yet."""
        with self._transaction() as connection:
            connection.execute("DROP TABLE IF EXISTS temp.rows")
            connection.execute("CREATE TEMP TABLE rows (id TEXT PRIMARY KEY, content_sha TEXT) WITHOUT ROWID")

    def add_rows(self, rows: Iterable[tuple[str, str]]) -> None:
        """Add the id and content_sha of rows of the collection."""
        with self._transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?)", rows)

    def without_row(self) -> Iterator[JournalEntry]:
        """Photos that should have a row, and no row of them was added."""
        return self._entries(f"{_HAS_ROW} AND +id NOT IN (SELECT id FROM rows)")

    def with_other_content(self) -> Iterator[JournalEntry]:
        """Photos whose row was made from a content other than the acknowledged one."""
        differing = "SELECT 1 FROM rows WHERE rows.id = photos.id AND rows.content_sha != photos.content_sha"
        return self._entries(f"{_HAS_ROW} AND EXISTS ({differing})")

    # SQLite

    def _entries(self, where: str, *values: Any) -> Iterator[JournalEntry]:
        """Entries that match an SQL condition, in the order in which they were first recorded.

        They are read in pages, so that a catalog of any size needs little memory and may be written in between.
        """
        last = 0
        sql = f"SELECT {_COLUMNS}, rowid FROM photos WHERE rowid > ? AND {where} ORDER BY rowid LIMIT ?"
        while True:
            with self._transaction() as connection:
                rows = connection.execute(sql, (last, *values, MAX_IDS_PER_STATEMENT)).fetchall()
                entries = list(map(_entry, rows))
            yield from entries
            if len(rows) < MAX_IDS_PER_STATEMENT:
                return
            last = rows[-1][-1]

    def _among(self, ids: Sequence[str], sql: str) -> set[str]:
        """The ids that an SQL statement selects, whose condition is completed here."""
        found: set[str] = set()
        with self._transaction() as connection:
            for part in _parts(ids, MAX_IDS_PER_STATEMENT):
                found |= {row[0] for row in connection.execute(f"{sql} {_id_in(part)}", part)}
        return found

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing; other threads wait meanwhile."""
        with self._lock, _sqlite_errors(self._file):
            try:
                self._connection.execute("BEGIN")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # after a full disk, SQLite has rolled back already
                    self._connection.execute("ROLLBACK")
                raise


def journal_file(folder: Path, collection_uid: str) -> Path:
    """The file of the journal of a collection."""
    return folder / f"journal-{collection_uid or 'unnamed'}.sqlite"


def _parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _id_in(ids: Sequence[str]) -> str:
    return f"id IN ({','.join('?' * len(ids))})"


def _entries_by_id(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, JournalEntry]:
    entries: dict[str, JournalEntry] = {}
    for part in _parts(ids, MAX_IDS_PER_STATEMENT):
        rows = connection.execute(f"SELECT {_COLUMNS} FROM photos WHERE {_id_in(part)}", part)
        entries |= {row[0]: _entry(row) for row in rows}
    return entries


def _entry(row: Sequence[Any]) -> JournalEntry:
    key, path, *others = row[:6]
    if not isinstance(path, bytes) or not all(isinstance(one, str) for one in (key, *others)):
        raise sqlite3.DatabaseError("a photo has a value of another type")
    return JournalEntry(key, path.decode("utf-8", "surrogateescape"), *others)


def _path_bytes(path: str) -> bytes:
    """File names need not be UTF-8."""
    return path.encode("utf-8", "surrogateescape")


def _source(text: str) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(text)
        if found.keys() >= _SOURCE_KEYS and all(isinstance(found[key], str) for key in _SOURCE_KEYS):
            return found
    except (ValueError, TypeError, AttributeError):
        pass
    raise sqlite3.DatabaseError("the description of a source cannot be read")


@contextmanager
def _sqlite_errors(file: Path | None) -> Iterator[None]:
    """Raise errors of SQLite as one sentence that names the next step."""
    try:
        yield
    except UnicodeDecodeError as error:  # raised if a message of SQLite contains bytes of a damaged file
        raise _damaged(file, error.object.decode(errors="backslashreplace")) from None
    except UnicodeEncodeError as error:
        raise DataError(f"the journal {file} cannot store a text that is not UTF-8: {error}") from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)  # errors that Python itself raises for a value have none
        kind = None if code in (None, sqlite3.SQLITE_IOERR_SHORT_READ) else code & 0xFF
        if kind in _LOCKED_CODES:
            raise ConfigError(
                f"another process has the journal {file} open, most likely a run into this collection; wait for it"
            ) from None
        if kind in _DISK_CODES:
            raise DataError(
                f"cannot read or write the journal {file}: {error}; resolve this, and run the command again"
            ) from None
        raise _damaged(file, str(error)) from None


def _damaged(file: Path | None, why: str) -> DataError:
    return DataError(
        f"the journal {file} is damaged ({why}); delete it, and the next run encodes all photos again, including "
        "those whose rows were deleted on purpose"
    )
