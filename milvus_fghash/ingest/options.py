"""The options of an ingest, what its runs share, and its result."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from milvus_fghash.core.callbacks import Notify, Progress
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.errors import ConfigError
from milvus_fghash.milvus.retry import RetryPolicy


@dataclass(frozen=True, kw_only=True)
class IngestOptions(DecodeOptions):
    """How photos are ingested. The attributes of `DecodeOptions` are options, too.

    Attributes:
        rows_per_write: most rows in one write to Milvus. With the longest paths and labels, 1,000 rows have 6 MB;
            Milvus accepts 64 MB.
        retry_rejected: try photos again that were rejected, or whose rows were deleted, although the file is unchanged.
        prune: delete the rows of photos that the dataset no longer has.
        prune_at_most: do not prune when more than this fraction of the photos has vanished (for example an unmounted
            disk), 0 to 1.
        retry: how long to wait for a Milvus that is unavailable or overloaded.

    Raises:
        ConfigError: when a number is out of range.

    Examples:
        >>> IngestOptions(workers=2, prune=True).prune_at_most
        0.5
    """

    rows_per_write: int = 1000
    retry_rejected: bool = False
    prune: bool = False
    prune_at_most: float = 0.5
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows_per_write < 1:
            raise ConfigError(
                f"a write has at least one row, got {self.rows_per_write} rows per write", setting="rows_per_write"
            )
        if not 0 <= self.prune_at_most <= 1:
            raise ConfigError(
                f"the largest fraction of photos to prune must be 0 to 1, got {self.prune_at_most}",
                setting="prune_at_most",
            )


DEFAULT_OPTIONS: Final = IngestOptions()


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the runs over one dataset share: ingest, reindex.

    Attributes:
        namespace: part of every id, so that folders with the same file names can share a collection.
        options: how photos are ingested.
        report: file for one line of JSON (path, reason, message) for each rejected photo.
        stop: when it is set, photos in progress are finished and written, and the run ends with `Stopped`. A run that
            fails sets it, too.
        notify: called with each message for the user.
        progress: called with the number of photos done, and the total.
    """

    namespace: str = ""
    options: IngestOptions = DEFAULT_OPTIONS
    report: Path | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    notify: Notify = lambda message: None
    progress: Progress = lambda done, total: None


@dataclass(frozen=True)
class IngestResult:
    """What an ingest did.

    Attributes:
        stored: rows written, of new and of changed photos.
        unchanged: photos that have a row and are the same.
        rejected: photos that were not accepted, by this run or an earlier one.
        reasons: reason -> number of rejected photos.
        deleted: photos whose rows were deleted, and that are not ingested again until their content changes.
        vanished: photos of earlier runs that the dataset no longer has.
        pruned: deleted rows of vanished photos; rows that another dataset has as well stay.
        seconds: duration of the run.
        images_per_second: photos decoded per second, rejected ones included, unchanged ones not.
        rows_in_collection: rows after the run.
    """

    stored: int
    unchanged: int
    rejected: int
    reasons: dict[str, int]
    deleted: int
    vanished: int
    pruned: int
    seconds: float
    images_per_second: float
    rows_in_collection: int
