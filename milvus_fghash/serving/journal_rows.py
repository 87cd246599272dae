"""The rows of a collection beside its journal, in a temporary table: what one has and the other has not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from milvus_fghash.serving.journal import MOST_IDS, Entry, Journal


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
    return journal.entries("content_sha != '' AND id NOT IN (SELECT id FROM rows)")


def unlike_row(journal: Journal) -> Iterator[Entry]:
    """Photos whose row was made of another content than the one that was acknowledged."""
    differing = "SELECT 1 FROM rows WHERE rows.id = photos.id AND rows.content_sha != photos.content_sha"
    return journal.entries(f"content_sha != '' AND EXISTS ({differing})")


def known(journal: Journal, ids: Sequence[str]) -> set[str]:
    """Those of the ids that the journal has with a row, or that stand in the listing that was seen."""
    found: set[str] = set()
    with journal.transaction() as connection:
        for start in range(0, len(ids), MOST_IDS):
            part = ids[start : start + MOST_IDS]
            marks = ",".join("?" * len(part))
            for table in ("photos WHERE content_sha != '' AND", "seen WHERE"):
                found |= {row[0] for row in connection.execute(f"SELECT id FROM {table} id IN ({marks})", part)}
    return found


def count_stored(journal: Journal) -> int:
    """Number of photos of all sources that have a row."""
    with journal.transaction() as connection:
        return int(connection.execute("SELECT count(*) FROM photos WHERE content_sha != ''").fetchone()[0])
