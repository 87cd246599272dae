"""The rows of a collection beside its journal, in a temporary table: what one has and the other has not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from milvus_fghash.state.journal import DELETED, HAS_ROW, MOST_IDS, Entry, Journal


def begin(journal: Journal) -> None:
    """Forget the rows that were noted before."""
    with journal.transaction() as connection:
        connection.execute("DROP TABLE IF EXISTS temp.rows")
        connection.execute("CREATE TEMP TABLE rows (id TEXT PRIMARY KEY, content_sha TEXT) WITHOUT ROWID")


def note(journal: Journal, rows: Iterable[tuple[str, str]]) -> None:
    """Note id and content_sha of rows."""
    with journal.transaction() as connection:
        connection.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?)", rows)


def without_row(journal: Journal) -> Iterator[Entry]:
    """Photos that should have a row, and none was noted."""
    return journal.entries(f"{HAS_ROW} AND +id NOT IN (SELECT id FROM rows)")


def unlike_row(journal: Journal) -> Iterator[Entry]:
    """Photos whose row was made of another content than the one that was acknowledged."""
    differing = "SELECT 1 FROM rows WHERE rows.id = photos.id AND rows.content_sha != photos.content_sha"
    return journal.entries(f"{HAS_ROW} AND EXISTS ({differing})")


def welcome(journal: Journal, ids: Sequence[str]) -> set[str]:
    """Those of the ids that stand in the listing that was seen, and were not deleted."""
    return listed(journal, ids) - journal.among(ids, f"SELECT id FROM photos WHERE reason = '{DELETED}' AND id IN")


def acknowledged(journal: Journal, ids: Sequence[str]) -> set[str]:
    """Those of the ids that should have a row."""
    return journal.among(ids, f"SELECT id FROM photos WHERE {HAS_ROW} AND id IN")


def paths(journal: Journal, ids: Sequence[str]) -> dict[str, str]:
    """Id -> path as in the listing, of those of the ids that the journal knows."""
    found: dict[str, str] = {}
    with journal.transaction() as connection:
        for start in range(0, len(ids), MOST_IDS):
            part = ids[start : start + MOST_IDS]
            sql = f"SELECT id, path FROM photos WHERE id IN ({','.join('?' * len(part))})"
            found |= {key: path.decode("utf-8", "surrogateescape") for key, path in connection.execute(sql, part)}
    return found


def paths_read(journal: Journal) -> Iterator[str]:
    """Paths of photos in the listing that was seen, of those that could be read, now or before."""
    return (entry.path for entry in journal.entries("content_sha != '' AND +id IN (SELECT id FROM seen)"))


def listed(journal: Journal, ids: Sequence[str]) -> set[str]:
    """Those of the ids that stand in the listing that was seen."""
    return journal.among(ids, "SELECT id FROM seen WHERE id IN")


def count_stored(journal: Journal) -> int:
    """Number of photos of all sources that have a row."""
    with journal.transaction() as connection:
        return int(connection.execute(f"SELECT count(*) FROM photos WHERE {HAS_ROW}").fetchone()[0])
