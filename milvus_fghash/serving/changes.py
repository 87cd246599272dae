"""Which photos of a listing are new or changed since Milvus acknowledged them, and which are gone."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from milvus_fghash.data.listing import Listing
from milvus_fghash.serving.journal import Entry, Journal
from milvus_fghash.serving.rows import photo_id

LOOKED_UP: Final = 1000
"""Photos of the listing that are looked up in the journal at once."""
PASSING: Final = ("timeout", "crash")
"""Reasons for which a file is tried again though it is the same: the next time the machine may be less busy."""


@dataclass(frozen=True)
class Todo:
    """A photo of the listing that has to be looked into.

    Attributes:
        row: its place in the listing.
        id: primary key of its row in Milvus.
        stamp: size and time of the file before it is read, and a digest of its label and meta; "" when it has none.
    """

    row: int
    id: str
    stamp: str


@dataclass
class Changes:
    """A listing beside the journal of its collection."""

    listing: Listing
    namespace: str
    journal: Journal
    photos: str | None = None
    """Tells the listings of one collection apart, so that a photo of one is not missed in another; None: the folder."""
    retry_refused: bool = False
    refuse: Callable[[Entry], object] = lambda entry: None
    """Called with a photo that is listed again."""
    stop: threading.Event = field(default_factory=threading.Event)
    unchanged: int = 0
    """Photos so far that have a row, and are the same."""
    skipped: int = 0
    """Photos so far that need no look: unchanged ones, and those that were refused before or are listed again."""
    cut_short: bool = False
    """Whether ``stop`` came before the end of the listing."""
    source: int = field(init=False)
    """The listing's number in the journal."""

    def __post_init__(self) -> None:
        self.source = self.journal.source(json.dumps(self.described))

    @property
    def described(self) -> dict[str, str]:
        """The source of the photos, as journal and records have it."""
        return {"photos": self.photos or str(self.listing.root.resolve()), "namespace": self.namespace}

    def todo(self) -> Iterator[Todo]:
        """Photos that are new, changed, or to be tried again, in the order of the listing."""
        for start in range(0, len(self.listing), LOOKED_UP):
            rows = range(start, min(start + LOOKED_UP, len(self.listing)))
            ids = [self.id(row) for row in rows]
            known, again = self.journal.see(self.source, ids)
            for row, key, twice in zip(rows, ids, again, strict=True):
                if self.stop.is_set():
                    self.cut_short = True
                    return
                todo = Todo(row, key, self._stamp(row))
                entry = known.get(key)
                if twice:
                    self._refuse_again(todo)
                elif entry is None or not self._is_done(entry, todo.stamp):
                    yield todo
                    continue
                else:
                    self.unchanged += not entry.reason
                self.skipped += 1

    def id(self, row: int) -> str:
        """Primary key of a photo's row in Milvus."""
        return photo_id(self.namespace, self.listing.paths[row])

    def meta(self, row: int) -> dict[str, str]:
        """What goes into the column `meta`."""
        known = {"split": self.listing.splits[row], "namespace": self.namespace}
        return {name: value for name, value in known.items() if value}

    def gone(self) -> list[str]:
        """Ids whose photos the listing no longer has; ask when all of it has been seen.

        A photo that is gone and never had a row is forgotten.
        """
        vanished = list(self.journal.vanished(self.source))
        self.journal.forget([one.id for one in vanished if not one.content_sha])
        return [one.id for one in vanished if one.content_sha]

    def _is_done(self, entry: Entry, stamp: str) -> bool:
        if entry.stamp != stamp or not stamp:
            return False
        return not entry.reason or not (self.retry_refused or entry.reason in PASSING)

    def _stamp(self, row: int) -> str:
        facts = json.dumps([self.listing.labels[row], self.meta(row)]).encode()
        try:
            status = self.listing.file(row).stat()
        except (OSError, ValueError):  # decoding tells what is the matter with it
            return ""
        return f"{status.st_size} {status.st_mtime_ns} {hashlib.blake2b(facts, digest_size=8).hexdigest()}"

    def _refuse_again(self, todo: Todo) -> None:
        """The journal has one entry for an id, so that of a photo listed again stands under another."""
        path = self.listing.paths[todo.row]
        key = f"{todo.id} {self.listing.ids[todo.row]}"
        self.journal.see(self.source, [key])
        message = f"{path} stands in the list more than once; its first line counts"
        self.refuse(Entry(key, path, todo.stamp, reason="twice", message=message))
