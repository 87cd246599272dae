"""An ingest under way: photos decoded, encoded, and handed over to be written, a batch at a time."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Self, TypeVar

from milvus_fghash.core.codes import Codes
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.sources.location import Source
from milvus_fghash.encoding.decode_result import advice
from milvus_fghash.encoding.decode_stream import Photo, RejectedSource
from milvus_fghash.encoding.encoder import EncodedColumns, Encoder
from milvus_fghash.errors import DataError, FghashError, Stopped
from milvus_fghash.ingest.changes import Changes, PendingPhoto
from milvus_fghash.ingest.options import IngestResult, RunContext
from milvus_fghash.ingest.symlinks import places
from milvus_fghash.ingest.writer import Batch, Writer
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows, why_not_storable
from milvus_fghash.state.journal import DELETED, JournalEntry

T = TypeVar("T")


@dataclass(frozen=True)
class BatchSizing:
    """How many photos are encoded together and ahead, so that with those that wait they are one batch at the most."""

    together: int
    """Photos computed together."""
    ahead: int
    """So many such groups are under way."""
    enough: int
    """Encoded photos that are handed over to be written."""

    @classmethod
    def of(cls, rows_per_write: int, batch_size: int, streams: int) -> Self:
        """For batches of at most ``rows_per_write`` rows, and an encoder's ``batch_size`` and ``streams``."""
        together = min(batch_size, max(1, rows_per_write // 2))
        ahead = max(1, min(streams + 1, rows_per_write // together - 1))
        return cls(together, ahead, max(1, rows_per_write - ahead * together + 1))


@dataclass
class IngestRun:
    """`result` does it all, once."""

    encoder: Encoder
    collection: HashCollection
    context: RunContext
    changes: Changes
    decoded: int = 0
    """Photos that were given to the decoder."""
    decoding: dict[int, PendingPhoto] = field(default_factory=dict)
    """Photos that are being decoded, by their position among those."""
    pending: list[PendingPhoto] = field(default_factory=list)
    """Encoded photos of the next batch."""
    encoded: EncodedColumns = field(init=False)
    """Their columns."""
    aside: list[JournalEntry] = field(default_factory=list)
    """Photos since the last batch that get no row."""

    def __post_init__(self) -> None:
        context = self.context
        self.options = context.options
        self.outputs = () if self.collection.embedding_dim is None else ("embedding",)
        self.encoded = self.encoder.empty_columns(*self.outputs)
        self.writer = Writer(self.collection, self.changes.journal, self.options.retry, context.notify, context.stop)

    @property
    def dataset(self) -> Dataset:
        return self.changes.dataset

    def result(self) -> IngestResult:
        started = time.monotonic()
        with self.writer:
            try:
                self._encode_all()
            except BaseException:  # no waiting for Milvus now; what was rejected is known, and costs nothing to keep
                self.context.stop.set()
                self._clear_encoded()
                with suppress(FghashError):
                    self._hand_over()
                raise
            self._hand_over()
        if self.changes.cut_short:
            raise Stopped(f"stopped; {self.writer.stored:,} more photos are in, and the same command goes on")
        vanished, pruned = self._prune()
        seconds = time.monotonic() - started
        reasons = self.changes.journal.reasons()
        deleted = reasons.pop(DELETED, 0)
        rows = self._with_retry(self.collection.count)
        self._warn(rows, reasons)
        return IngestResult(
            stored=self.writer.stored,
            unchanged=self.changes.unchanged,
            rejected=sum(reasons.values()),
            reasons=reasons,
            deleted=deleted,
            vanished=vanished,
            pruned=pruned,
            seconds=seconds,
            images_per_second=self.decoded / seconds,
            rows_in_collection=rows,
        )

    def _warn(self, rows: int, reasons: Mapping[str, int]) -> None:
        """Tell what a person should look into."""
        for line in advice(reasons):
            self.context.notify(line)
        acknowledged = self.changes.journal.count_acknowledged()
        if acknowledged > rows:
            self.context.notify(
                f"Milvus acknowledged {acknowledged:,} rows of {self.collection.name} and has {rows:,}; "
                "verify tells which are missing, and repairing writes them again"
            )
        if self.changes.replacing:
            self.context.notify(
                f"{self.changes.replacing:,} photos took the rows of others of the same names, from another place; to "
                "keep both, give one place a namespace of its own"
            )

    def _with_retry(self, call: Callable[[], T]) -> T:
        return self.options.retry.call(call, self.context.stop, self.context.notify)

    def _encode_all(self) -> None:
        options, encoder = self.options, self.encoder
        pace = BatchSizing.of(options.rows_per_write, encoder.batch_size, encoder.streams)
        with closing(
            encoder.encode_sources(
                self._files(),
                *self.outputs,
                reject=self._reject,
                wanted=self._is_wanted,
                options=options,
                together=pace.together,
                ahead=pace.ahead,
            )
        ) as encoded:
            for photos, outputs in encoded:
                self.pending += [self.decoding.pop(photo.row) for photo in photos]
                self.encoded.add(photos, outputs)
                if len(self.pending) >= pace.enough:
                    self._hand_over()
                self._report_progress()
        self._report_progress()

    def _files(self) -> Iterator[Source]:
        """Photos to decode, looked up in the journal while others are decoded."""
        place = places(self.dataset, self.options.follow_links)
        for todo in self.changes.todo():
            if isinstance(todo, JournalEntry):
                self._set_aside(todo)
                continue
            self.decoding[self.decoded] = todo
            self.decoded += 1
            yield place(todo.row)

    def _report_progress(self) -> None:
        self.context.progress(self.changes.skipped + self.decoded - len(self.decoding), len(self.dataset))

    def _reject(self, one: RejectedSource) -> None:
        todo = self.decoding.pop(one.row)
        path = self.dataset.paths[todo.row]
        self._set_aside(JournalEntry(todo.id, path, todo.stamp, reason=one.reason, message=one.message))

    def _set_aside(self, entry: JournalEntry) -> None:
        self.aside.append(entry)
        if len(self.aside) >= self.options.rows_per_write:  # there may be no good photo for long
            self._hand_over()
            self._report_progress()

    def _is_wanted(self, photo: Photo) -> bool:
        """Whether a photo goes in: its row is of another content, or was not deleted on purpose; all of it fits.

        One that does not must not stop the others.
        """
        todo = self.decoding[photo.row]
        row = todo.row
        if photo.content_sha in (todo.deleted_sha, todo.stored_sha):
            del self.decoding[photo.row]
            self.changes.unchanged += not todo.deleted_sha
            reason = DELETED if todo.deleted_sha else ""
            self._set_aside(JournalEntry(todo.id, self.dataset.paths[row], todo.stamp, photo.content_sha, reason))
            return False
        if misfit := why_not_storable(self.dataset, row, self.changes.meta(row)):
            self._reject(RejectedSource(self.dataset.paths[row], *misfit, photo.row))
            return False
        return True

    def _hand_over(self) -> None:
        """Give the next batch to the writer."""
        if not self.pending and not self.aside:
            return
        paths, encoded = self.dataset.paths, self.encoded
        entries = [
            JournalEntry(one.id, paths[one.row], one.stamp, sha)
            for one, sha in zip(self.pending, encoded.content_shas, strict=True)
        ]
        rows, embeddings = None, None
        if self.pending:
            codes, *more = encoded.outputs
            rows, embeddings = self._rows(codes), more[0] if more else None
        self.writer.put(Batch(rows, embeddings, entries + self.aside))
        self._clear_encoded()
        self.aside.clear()

    def _clear_encoded(self) -> None:
        self.pending.clear()
        self.encoded = self.encoder.empty_columns(*self.outputs)

    def _rows(self, codes: Codes) -> Rows:
        places = [one.row for one in self.pending]
        return Rows.of_dataset(
            self.dataset,
            places,
            ids=[one.id for one in self.pending],
            codes=codes,
            content_shas=self.encoded.content_shas,
            metas=[self.changes.meta(row) for row in places],
            phashes=self.encoded.phashes,
        )

    def _prune(self) -> tuple[int, int]:
        """How many photos of earlier runs are gone, and how many of their rows were deleted."""
        changes, there = self.changes, len(self.dataset)
        gone = changes.gone()
        if changes.unknown:
            self.context.notify(
                f"{changes.unknown:,} photos of earlier runs may be gone or not: {self.dataset.unlisted_message}. "
                "Their rows stay; to have them pruned, repair or remove the folder, or delete them by their ids"
            )
        if not gone or not self.options.prune:
            return len(gone), 0
        if len(gone) > self.options.prune_at_most * (len(gone) + there):
            raise DataError(
                f"{len(gone):,} photos of earlier runs are gone and {there:,} are there, so nothing was pruned (all "
                "others are in): is the whole disk there? If they are to go, allow more",
                setting="prune_at_most",
            )
        pruned = 0
        for start in range(0, len(gone), self.options.rows_per_write):
            part = gone[start : start + self.options.rows_per_write]
            kept = changes.journal.members_of_others(changes.source, part)
            nobodys = [key for key in part if key not in kept]
            self._with_retry(functools.partial(self.collection.delete, nobodys))
            changes.journal.remove_members(changes.source, part)
            pruned += len(nobodys)
        return len(gone), pruned
