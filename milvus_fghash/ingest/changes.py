"""Which photos of a listing are new or changed since Milvus acknowledged them, and which are gone."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.sources.location import protocol_of
from milvus_fghash.errors import DataError
from milvus_fghash.ingest.remote_revisions import versions_in_parts
from milvus_fghash.milvus.rows import photo_id
from milvus_fghash.state.journal import DELETED, Journal, JournalEntry

LOOKED_UP: Final = 1000
"""Photos of the listing that are looked up in the journal at once."""
OUTSIDE: Final = "outside"
"""Reason of a photo that a link brings in from outside the folder."""
PASSING: Final = ("timeout", "crash", "unreachable", "extra", OUTSIDE)
"""Reasons for which a photo is tried again though it is the same: the next time a machine may be less busy, an extra be
installed, or links be followed."""
UNKNOWN: Final = "-"
"""In a stamp, in place of a version that nobody tells: such a photo is read again, and compared by its content."""
MOVED: Final = 0.5
"""Part of its photos that a folder which is no more must share with a listing to be taken for the same, moved."""


@dataclass(frozen=True)
class PendingPhoto:
    """A photo of the listing that has to be looked into.

    Attributes:
        row: its place in the listing.
        id: primary key of its row in Milvus.
        stamp: version of the photo (of a file, size and time) before it is read, and a digest of what the listing says
            of it; "" when there is no file.
        deleted_sha: content whose row was deleted on purpose, and that is not taken in again; "" when none was.
        stored_sha: content of its row, where that has the same label and meta; "" when there is none.
    """

    row: int
    id: str
    stamp: str
    deleted_sha: str = ""
    stored_sha: str = ""


@dataclass
class Changes:
    """A listing beside the journal of its collection.

    Raises:
        DataError: when the listing has a column of a name that `meta` keeps.
    """

    dataset: Dataset
    namespace: str
    journal: Journal
    retry_rejected: bool = False
    """Whether to try again what was rejected or deleted, though it is the same."""
    stop: threading.Event = field(default_factory=threading.Event)
    unchanged: int = 0
    """Photos so far that have a row, and are the same."""
    skipped: int = 0
    """Photos so far that need no look: unchanged ones, and those rejected or deleted before, or listed again."""
    replacing: int = 0
    """Changed photos so far that another place has too, under the same name: each undoes the row of the other."""
    unknown: int = 0
    """Photos with a row that lie where the listing does not know what is there; counted by `gone`."""
    cut_short: bool = False
    """Whether ``stop`` came before the end of the listing."""
    source: int = field(init=False)
    """The listing's number in the journal."""
    _rivals: list[int] = field(init=False)

    def __post_init__(self) -> None:
        if "namespace" in self.dataset.extra_columns.values:
            raise DataError(
                "the list of photos has a column 'namespace', a name that `meta` keeps for the namespace; rename it"
            )
        self.source = self.journal.add_source(json.dumps(self.described))
        self._rivals = [number for number, other in self._alike() if _is_there(other)]
        self.journal.begin_scan()

    @property
    def described(self) -> dict[str, str]:
        """The source of the photos, as journal and records have it."""
        origin = self.dataset.origin
        photos = str(origin.resolve() if isinstance(origin, Path) else origin)
        return {"photos": photos, "part": self.dataset.selected_splits, "namespace": self.namespace}

    def todo(self) -> Iterator[PendingPhoto | JournalEntry]:
        """Photos that are new, changed, or to be tried again, in the order of the dataset.

        A photo that the dataset has more than once is yielded once; each repetition is yielded as a journal entry that
        rejects it.
        """
        for rows, versions in versions_in_parts(self.dataset, LOOKED_UP):
            ids = [self.id(row) for row in rows]
            lookup, shared = self.journal.mark_seen(self.source, ids), self._shared(ids)
            for row, key, twice, version in zip(rows, ids, lookup.repeated, versions, strict=True):
                if self.stop.is_set():
                    self.cut_short = True
                    return
                stamp, entry = self._stamp(row, version), lookup.entries.get(key)
                if twice:
                    yield self._duplicate(row, key, stamp)
                elif entry is None or not self._is_done(entry, stamp):
                    self.replacing += key in shared
                    was_deleted = entry is not None and entry.reason == DELETED and not self.retry_rejected
                    yield PendingPhoto(
                        row,
                        key,
                        stamp,
                        deleted_sha=entry.content_sha if entry and was_deleted else "",
                        stored_sha=entry.content_sha if entry and _tells_the_same(entry, stamp) else "",
                    )
                    continue
                else:
                    self.unchanged += not entry.reason
                self.skipped += 1

    def relabelled(self) -> str:
        """What to say of rows that a changed class rule gives another class or split; "" when there are none.

        The rule is noted. Photos are compared only when it is another one than was noted, or none was.
        """
        rule = self.dataset.read_report.classes
        before = self.journal.replace_class_rule(self.source, rule)
        if before == rule or (before is None and self.dataset.extra_columns.lines):  # lists always said the classes
            return ""
        count = 0
        for start in range(0, len(self.dataset), LOOKED_UP):
            row_of = {self.id(row): row for row in range(start, min(start + LOOKED_UP, len(self.dataset)))}
            for key, entry in self.journal.get(list(row_of)).items():
                has_row = entry.content_sha and not entry.reason
                count += bool(has_row and entry.stamp and _facts_of(entry.stamp) != self._facts(row_of[key]))
            if self.stop.is_set():
                break
        if not count:
            return ""
        was = f"; before: {before}" if before else ""
        return (
            f"{count:,} rows of the collection have another class or split than their photos have now, and are written "
            f"again (classes now: {rule}{was})"
        )

    def id(self, row: int) -> str:
        """Primary key of a photo's row in Milvus."""
        return photo_id(self.namespace, self.dataset.paths[row])

    def meta(self, row: int) -> dict[str, Any]:
        """What goes into the column `meta`."""
        return {**self.dataset.extra_columns.meta(row), **self._own_meta(row)}

    def _own_meta(self, row: int) -> dict[str, str]:
        known = {"split": self.dataset.splits[row], "namespace": self.namespace}
        return {name: value for name, value in known.items() if value}

    def gone(self) -> list[str]:
        """Ids with a row whose photos the listing no longer has; ask when all of it has been seen.

        Those are not among them that lie where the listing does not know what is there (`Dataset.unlisted`), or cannot
        be trusted (`Dataset.doubting`). A photo that is gone and has no row is forgotten, unless its row was deleted on
        purpose.
        """
        self._adopt()
        lost = self.journal.unseen_members(self.source)
        if self.dataset.listed_folders and (missed := self.journal.acknowledged(lost)):
            missed_paths = [one.path for one in self.journal.get(list(missed)).values()]
            self.dataset = self.dataset.with_untrusted_folders(missed_paths, self.journal.readable_paths())
        if self.dataset.unlisted:
            known = self.journal.get(lost)
            hidden = {key for key in lost if not self.dataset.covers(known[key].path if key in known else "")}
            self.unknown = len(self.journal.acknowledged(list(hidden)))
            lost = [key for key in lost if key not in hidden]
        acknowledged = self.journal.acknowledged(lost)
        self.journal.remove_members(self.source, [key for key in lost if key not in acknowledged])
        return [key for key in lost if key in acknowledged]

    def _alike(self, *, same_part: bool = False) -> Iterator[tuple[int, str]]:
        """Numbers and places of the sources that lie elsewhere and share our namespace."""
        mine = self.described
        for number, other in self.journal.sources().items():
            same = other["namespace"] == mine["namespace"] and (other["part"] == mine["part"] or not same_part)
            if same and other["photos"] != mine["photos"]:
                yield number, other["photos"]

    def _shared(self, ids: list[str]) -> set[str]:
        """Those of the ids that a place which is still there has too."""
        return self.journal.members_of_any(self._rivals, ids) if self._rivals else set()

    def _adopt(self) -> None:
        """A folder that was moved: what the old place had is missed in the new one."""
        for number, place in self._alike(same_part=True):
            if not _is_there(place) and self.journal.seen_fraction(number) >= MOVED:
                self.journal.move_members(number, self.source)

    def _is_done(self, entry: JournalEntry, stamp: str) -> bool:
        if entry.stamp != stamp or not stamp or stamp.startswith(UNKNOWN):
            return False
        return not entry.reason or not (self.retry_rejected or entry.reason in PASSING)

    def _stamp(self, row: int, version: str) -> str:
        if isinstance(place := self.dataset.source(row), Path):
            try:
                status = place.stat()
            except (OSError, ValueError):  # decoding tells what is the matter with it
                return ""
            version = f"{status.st_size} {status.st_mtime_ns}"
        return f"{version or UNKNOWN} {self._facts(row)}"

    def _facts(self, row: int) -> str:
        """A digest of what the listing says of a photo."""
        told = self.dataset.extra_columns.known(
            row
        )  # as it was read: whether it becomes columns or `meta` is no change
        facts = json.dumps([self.dataset.labels[row], self._own_meta(row), *([told] if told else [])]).encode()
        return hashlib.blake2b(facts, digest_size=8).hexdigest()

    def _duplicate(self, row: int, key: str, stamp: str) -> JournalEntry:
        """The journal has one entry per id, so that of a repetition is kept under another key."""
        path = self.dataset.paths[row]
        key = f"{key} {self.dataset.ids[row]}"
        self.journal.mark_seen(self.source, [key])
        message = f"{path} stands in the list more than once; its first line counts"
        return JournalEntry(key, path, stamp, reason="twice", message=message)


def _is_there(photos: str) -> bool:
    """Whether the place of a source still exists; of one behind a URL that is taken for granted."""
    return bool(protocol_of(photos)) or Path(photos).exists()


def _tells_the_same(entry: JournalEntry, stamp: str) -> bool:
    """Whether a photo with a row has the same label and meta as then."""
    return not entry.reason and bool(stamp) and _facts_of(entry.stamp) == _facts_of(stamp)


def _facts_of(stamp: str) -> str:
    return stamp.rpartition(" ")[2]
