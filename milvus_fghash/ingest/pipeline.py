"""The pipeline of an ingest: photos are decoded, encoded and passed to the writer in batches."""

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
from milvus_fghash.ingest.writer import Batch, Writer
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows, why_not_storable
from milvus_fghash.state.journal import DELETED, JournalEntry

T = TypeVar("T")


@dataclass(frozen=True)
class BatchSizing:
    """How many photos are encoded at the same time, so that with the waiting ones they make at most one batch."""

    group_size: int
    """Photos that are computed together."""
    groups_ahead: int
    """Groups that are decoded or computed before the first one is returned."""
    flush_at: int
    """Number of encoded photos that are passed to the writer."""

    @classmethod
    def of(cls, rows_per_write: int, batch_size: int, streams: int) -> Self:
        """For batches of at most ``rows_per_write`` rows, and an encoder's ``batch_size`` and ``streams``."""
        group_size = min(batch_size, max(1, rows_per_write // 2))
        groups_ahead = max(1, min(streams + 1, rows_per_write // group_size - 1))
        return cls(group_size, groups_ahead, max(1, rows_per_write - groups_ahead * group_size + 1))


@dataclass
class IngestRun:
    """One ingest; call `result` once."""

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
            except BaseException:  # no longer wait for Milvus; only record the rejected photos
                self.context.stop.set()
                self._clear_encoded()
                with suppress(FghashError):
                    self._hand_over()
                raise
            self._hand_over()
        if self.changes.cut_short:
            raise Stopped(f"stopped after {self.writer.stored:,} photos were written; run it again to continue")
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
        """Report what needs attention."""
        for line in advice(reasons):
            self.context.notify(line)
        acknowledged = self.changes.journal.count_acknowledged()
        if acknowledged > rows:
            self.context.notify(
                f"Milvus acknowledged {acknowledged:,} rows of {self.collection.name} and has {rows:,}; verify names "
                "the missing ones, and repair writes them again"
            )
        if self.changes.replacing:
            self.context.notify(
                f"{self.changes.replacing:,} photos replaced the rows of photos with the same names from another "
                "source; to keep both, give one source its own namespace"
            )

    def _with_retry(self, call: Callable[[], T]) -> T:
        return self.options.retry.call(call, self.context.stop, self.context.notify)

    def _encode_all(self) -> None:
        options, encoder = self.options, self.encoder
        sizing = BatchSizing.of(options.rows_per_write, encoder.batch_size, encoder.streams)
        with closing(
            encoder.encode_sources(
                self._files(),
                *self.outputs,
                reject=self._reject,
                wanted=self._is_wanted,
                options=options,
                together=sizing.group_size,
                ahead=sizing.groups_ahead,
            )
        ) as encoded:
            for photos, outputs in encoded:
                self.pending += [self.decoding.pop(photo.row) for photo in photos]
                self.encoded.add(photos, outputs)
                if len(self.pending) >= sizing.flush_at:
                    self._hand_over()
                self._report_progress()
        self._report_progress()

    def _files(self) -> Iterator[Source]:
        """Photos to decode, looked up in the journal while others are decoded."""
        source_of = self.options.sources_of(self.dataset)
        for todo in self.changes.todo():
            if isinstance(todo, JournalEntry):
                self._set_aside(todo)
                continue
            self.decoding[self.decoded] = todo
            self.decoded += 1
            yield source_of(todo.row)

    def _report_progress(self) -> None:
        self.context.progress(self.changes.skipped + self.decoded - len(self.decoding), len(self.dataset))

    def _reject(self, one: RejectedSource) -> None:
        todo = self.decoding.pop(one.row)
        path = self.dataset.paths[todo.row]
        self._set_aside(JournalEntry(todo.id, path, todo.stamp, reason=one.reason, message=one.message))

    def _set_aside(self, entry: JournalEntry) -> None:
        self.aside.append(entry)
        if len(self.aside) >= self.options.rows_per_write:  # even when no photo is accepted for long
            self._hand_over()
            self._report_progress()

    def _is_wanted(self, photo: Photo) -> bool:
        """Whether a photo gets a row: its content is new, was not deleted by the user, and fits the collection.

        A photo that does not fit is rejected and must not stop the others.
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
        """Numbers of vanished photos and of their rows that were deleted."""
        changes, present = self.changes, len(self.dataset)
        gone = changes.gone()
        if changes.unknown:
            self.context.notify(
                f"{changes.unknown:,} photos of earlier runs may have vanished: {self.dataset.unlisted_message}. Their "
                "rows are kept; to prune them, repair or remove the folder, or delete them by id"
            )
        if not gone or not self.options.prune:
            return len(gone), 0
        if len(gone) > self.options.prune_at_most * (len(gone) + present):
            raise DataError(
                f"{len(gone):,} photos of earlier runs have vanished and {present:,} are present, so no row was pruned "
                "(the photos were ingested). Is a disk not mounted? To delete the rows, allow a larger fraction",
                setting="prune_at_most",
            )
        pruned = 0
        for start in range(0, len(gone), self.options.rows_per_write):
            part = gone[start : start + self.options.rows_per_write]
            kept = changes.journal.members_of_others(changes.source, part)
            unused = [key for key in part if key not in kept]
            self._with_retry(functools.partial(self.collection.delete, unused))
            changes.journal.remove_members(changes.source, part)
            pruned += len(unused)
        return len(gone), pruned
