"""Changes of a dataset since Milvus acknowledged its rows: photos that are new, changed or gone."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from milvus_fghash.core.labels import is_label_set, split_labels
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.sources.location import PhotoLocation, protocol_of
from milvus_fghash.encoding.decode_options import OUTSIDE
from milvus_fghash.errors import DataError
from milvus_fghash.milvus.rows import photo_id
from milvus_fghash.state.journal import DELETED, Journal, JournalEntry

LOOKUP_SIZE: Final = 1000
"""Photos that are looked up in the journal together."""
TRANSIENT: Final = ("timeout", "crash", "unreachable", "extra", OUTSIDE)
"""Reasons for which an unchanged photo is tried again: the machine may be less busy next time, an extra may be
installed, or links may be followed."""
UNKNOWN: Final = "-"
"""Revision of a photo, in a stamp, where it is not known: the photo is read again and compared by its content."""
MOVED_SHARE: Final = 0.5
"""Least share of its photos that a vanished folder must have in common with a dataset to count as moved there."""


@dataclass(frozen=True)
class PendingPhoto:
    """A photo that has to be read.

    Attributes:
        row: its position in the dataset.
        id: primary key of its row in Milvus.
        stamp: revision of the photo (of a file, size and time) before it is read, and a digest of its values in the
            dataset; "" when there is no file.
        deleted_sha: content whose row was deleted and is not ingested again; "" when none was deleted.
        stored_sha: content of its row, where that row has the same label and meta; "" when there is none.
    """

    row: int
    id: str
    stamp: str
    deleted_sha: str = ""
    stored_sha: str = ""


@dataclass
class Changes:
    """A dataset compared with the journal of its collection.

    Raises:
        DataError: when the dataset has a column with a reserved name.
    """

    dataset: Dataset
    namespace: str
    journal: Journal
    retry_rejected: bool = False
    """Whether to try rejected and deleted photos again although they are unchanged."""
    stop: threading.Event = field(default_factory=threading.Event)
    unchanged: int = 0
    """Photos so far that have a row and are unchanged."""
    skipped: int = 0
    """Photos so far that need not be read: unchanged, rejected or deleted before, or repeated in the dataset."""
    replacing: int = 0
    """Changed photos so far that another source has under the same name: each replaces the row of the other."""
    unknown: int = 0
    """Photos with a row in folders that could not be listed; counted by `gone`."""
    cut_short: bool = False
    """Whether ``stop`` was set before the end of the dataset."""
    source: int = field(init=False)
    """Number of the dataset in the journal."""
    _rivals: list[int] = field(init=False)

    def __post_init__(self) -> None:
        if "namespace" in self.dataset.extra_columns.values:
            raise DataError(
                "the list of photos has a column 'namespace', which is reserved for the namespace in `meta`; rename it"
            )
        self.source = self.journal.add_source(json.dumps(self.described))
        self._rivals = [number for number, other in self._other_sources() if _exists(other)]
        self.journal.begin_scan()

    @property
    def described(self) -> dict[str, str]:
        """The source of the photos, as the journal and run records store it."""
        origin = self.dataset.origin
        photos = str(origin.resolve() if isinstance(origin, Path) else origin)
        return {"photos": photos, "part": self.dataset.selected_splits, "namespace": self.namespace}

    def todo(self) -> Iterator[PendingPhoto | JournalEntry]:
        """Photos that are new, changed, or to be tried again, in the order of the dataset.

        A photo that the dataset has more than once is yielded once; each repetition is yielded as a journal entry that
        rejects it.
        """
        for rows, revisions in _with_revisions(self.dataset):
            ids = [self.id(row) for row in rows]
            lookup, shared = self.journal.mark_seen(self.source, ids), self._shared(ids)
            for row, key, repeated, revision in zip(rows, ids, lookup.repeated, revisions, strict=True):
                if self.stop.is_set():
                    self.cut_short = True
                    return
                stamp, entry = self._stamp(row, revision), lookup.entries.get(key)
                if repeated:
                    yield self._duplicate(row, key, stamp)
                elif entry is None or not self._is_done(entry, stamp):
                    self.replacing += key in shared
                    was_deleted = entry is not None and entry.reason == DELETED and not self.retry_rejected
                    yield PendingPhoto(
                        row,
                        key,
                        stamp,
                        deleted_sha=entry.content_sha if entry and was_deleted else "",
                        stored_sha=entry.content_sha if entry and _has_same_facts(entry, stamp) else "",
                    )
                    continue
                else:
                    self.unchanged += not entry.reason
                self.skipped += 1

    def relabelled(self) -> str:
        """A message about rows that a changed class rule gives another class or split; "" when there are none.

        The rule is stored in the journal. Photos are compared only when it differs from the stored one, or none was
        stored.
        """
        rule = self.dataset.read_report.classes
        before = self.journal.replace_class_rule(self.source, rule)
        if before == rule or (before is None and self.dataset.extra_columns.lines):  # lists always gave them
            return ""
        count = 0
        for start in range(0, len(self.dataset), LOOKUP_SIZE):
            row_of = {self.id(row): row for row in range(start, min(start + LOOKUP_SIZE, len(self.dataset)))}
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
        """The value of the column `meta`."""
        return {**self.dataset.extra_columns.meta(row), **self._own_meta(row)}

    def _own_meta(self, row: int) -> dict[str, Any]:
        label = self.dataset.labels[row]
        # A list beside the text: Milvus finds one of several labels by json_contains(meta["labels"], "sky").
        labels = list(split_labels(label)) if is_label_set(label) else []
        known = {"split": self.dataset.splits[row], "namespace": self.namespace, "labels": labels}
        return {name: value for name, value in known.items() if value}

    def gone(self) -> list[str]:
        """Ids with a row whose photos the dataset no longer has; valid after all of `todo`.

        Photos in folders that could not be listed (`Dataset.unlisted`) or whose listing cannot be trusted
        (`Dataset.with_untrusted_folders`) are left out. A vanished photo without a row is removed from the journal,
        unless its row was deleted by the user.
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

    def _other_sources(self, *, same_part: bool = False) -> Iterator[tuple[int, str]]:
        """Numbers and locations of the other sources with our namespace."""
        mine = self.described
        for number, other in self.journal.sources().items():
            same = other["namespace"] == mine["namespace"] and (other["part"] == mine["part"] or not same_part)
            if same and other["photos"] != mine["photos"]:
                yield number, other["photos"]

    def _shared(self, ids: list[str]) -> set[str]:
        """The ids that another existing source has, too."""
        return self.journal.members_of_any(self._rivals, ids) if self._rivals else set()

    def _adopt(self) -> None:
        """After a folder was moved: photos of the old location count as vanished from the new one."""
        for number, place in self._other_sources(same_part=True):
            if not _exists(place) and self.journal.seen_fraction(number) >= MOVED_SHARE:
                self.journal.move_members(number, self.source)

    def _is_done(self, entry: JournalEntry, stamp: str) -> bool:
        if entry.stamp != stamp or not stamp or stamp.startswith(UNKNOWN):
            return False
        return not entry.reason or not (self.retry_rejected or entry.reason in TRANSIENT)

    def _stamp(self, row: int, revision: str) -> str:
        if isinstance(place := self.dataset.source(row), Path):
            try:
                status = place.stat()
            except (OSError, ValueError):  # decoding reports the cause
                return ""
            revision = f"{status.st_size} {status.st_mtime_ns}"
        return f"{revision or UNKNOWN} {self._facts(row)}"

    def _facts(self, row: int) -> str:
        """A digest of a photo's values in the dataset."""
        values = self.dataset.extra_columns.known(
            row
        )  # as read: moving a value between columns and `meta` is not a change
        facts = json.dumps([self.dataset.labels[row], self._own_meta(row), *([values] if values else [])]).encode()
        return hashlib.blake2b(facts, digest_size=8).hexdigest()

    def _duplicate(self, row: int, key: str, stamp: str) -> JournalEntry:
        """The journal has one entry per id, so that of a repetition is kept under another key."""
        path = self.dataset.paths[row]
        key = f"{key} {self.dataset.ids[row]}"
        self.journal.mark_seen(self.source, [key])
        message = f"{path} occurs in the list more than once; the first line is used"
        return JournalEntry(key, path, stamp, reason="twice", message=message)


def _exists(photos: str) -> bool:
    """Whether the location of a source still exists; of a URL this is assumed."""
    return bool(protocol_of(photos)) or Path(photos).exists()


def _has_same_facts(entry: JournalEntry, stamp: str) -> bool:
    """Whether the row of a photo has the same label and meta."""
    return not entry.reason and bool(stamp) and _facts_of(entry.stamp) == _facts_of(stamp)


def _facts_of(stamp: str) -> str:
    return stamp.rpartition(" ")[2]


def _with_revisions(dataset: Dataset) -> Iterator[tuple[range, list[str]]]:
    """Rows of a dataset, `LOOKUP_SIZE` at a time, with their revisions; "" for files and where none is known.

    Remote revisions of the next rows are requested while the caller works on these.
    """
    parts = [range(start, min(start + LOOKUP_SIZE, len(dataset))) for start in range(0, len(dataset), LOOKUP_SIZE)]
    request = _request_revisions(dataset, parts[0])
    for rows, following in itertools.zip_longest(parts, parts[1:]):
        revisions = request()
        if following:
            request = _request_revisions(dataset, following)
        yield rows, revisions


def _request_revisions(dataset: Dataset, rows: range) -> Callable[[], list[str]]:
    """Request what is not known yet; the returned function waits for the answers."""
    sources = [dataset.source(row) for row in rows] if dataset.sources else []
    revisions = ["" if isinstance(one, Path) else one.revision for one in sources] or [""] * len(rows)
    remote = {at: one for at, one in enumerate(sources) if isinstance(one, PhotoLocation) and one.is_remote}
    unknown = {at: one for at, one in remote.items() if not one.revision and one.size is None}
    if not unknown:
        return lambda: revisions
    from milvus_fghash.datasets.sources.fetch import request_revisions

    answers = request_revisions(list(unknown.values()))

    def wait() -> list[str]:
        for at, revision in zip(unknown, answers(), strict=True):
            revisions[at] = revision
        return revisions

    return wait
