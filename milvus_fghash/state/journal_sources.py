"""Which listings a photo belongs to, and which photos a listing has lost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from milvus_fghash.state.journal import DELETED, Journal

PARTS: Final = {"photos", "part", "namespace"}


def sources(journal: Journal) -> dict[int, dict[str, str]]:
    """Number -> description (`photos`, `part`, `namespace`), of all sources."""
    with journal.transaction() as connection:
        return {number: _description(text) for number, text in connection.execute("SELECT * FROM sources")}


def _description(text: str) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(text)
        if found.keys() >= PARTS and all(isinstance(found[part], str) for part in PARTS):
            return found
    except (ValueError, TypeError, AttributeError):
        pass
    raise sqlite3.DatabaseError("the description of a source cannot be read")


def lost(journal: Journal, source: int) -> list[str]:
    """Ids of the members of a source that were not seen; ask when all of its listing has been."""
    sql = "SELECT id FROM members WHERE source = ? AND id NOT IN (SELECT id FROM seen)"
    with journal.transaction() as connection:
        return [row[0] for row in connection.execute(sql, (source,))]


def of_others(journal: Journal, source: int, ids: Sequence[str]) -> set[str]:
    """Those of the ids that are members of another source too."""
    return journal.among(ids, f"SELECT id FROM members WHERE source != {source} AND id IN")


def leave(journal: Journal, source: int, ids: Sequence[str]) -> None:
    """Take members out of a source. What no source has any more is forgotten, unless it was deleted on purpose."""
    orphan = "NOT EXISTS (SELECT 1 FROM members WHERE members.id = photos.id)"
    with journal.transaction() as connection:
        connection.executemany("DELETE FROM members WHERE source = ? AND id = ?", [(source, key) for key in ids])
        connection.executemany(
            f"DELETE FROM photos WHERE id = ? AND reason != '{DELETED}' AND {orphan}", [(key,) for key in ids]
        )


def class_rule(journal: Journal, source: int, rule: str) -> str | None:
    """Note where the classes of a source are read from; gives what was noted before, None when nothing was."""
    with journal.transaction() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS class_rules (source INTEGER PRIMARY KEY, rule TEXT NOT NULL)")
        row = connection.execute("SELECT rule FROM class_rules WHERE source = ?", (source,)).fetchone()
        connection.execute("INSERT OR REPLACE INTO class_rules VALUES (?, ?)", (source, rule))
    return str(row[0]) if row else None


def share_seen(journal: Journal, source: int) -> float:
    """How much of a source the listing has that was just seen, 0 to 1."""
    sql = "SELECT count(*), coalesce(sum(id IN (SELECT id FROM seen)), 0) FROM members WHERE source = ?"
    with journal.transaction() as connection:
        n, n_seen = connection.execute(sql, (source,)).fetchone()
    return n_seen / n if n else 0.0


def adopt(journal: Journal, old: int, new: int) -> None:
    """Make all members of one source those of another."""
    with journal.transaction() as connection:
        connection.execute("UPDATE OR IGNORE members SET source = ? WHERE source = ?", (new, old))
        connection.execute("DELETE FROM members WHERE source = ?", (old,))
