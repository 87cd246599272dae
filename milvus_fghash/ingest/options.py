"""How photos are taken in, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from milvus_fghash.core.images import DEFAULT_LIMITS, Limits
from milvus_fghash.encoding.decode_stream import TIMEOUT, WORKERS
from milvus_fghash.errors import ConfigError
from milvus_fghash.milvus.retry import RetryPolicy


@dataclass(frozen=True)
class IngestOptions:
    """How photos are taken in."""

    batch_rows: int = 1000
    """Rows of one write. With the longest paths and labels these are 6 MB; Milvus takes 64."""
    limits: Limits = DEFAULT_LIMITS
    workers: int = WORKERS
    """Processes that decode, as in `decode`; 0 decodes in this one."""
    timeout: float = TIMEOUT
    """Seconds for one photo, where there are workers."""
    retry_rejected: bool = False
    """Try again what was rejected before, or whose row was deleted on purpose, though the file is the same."""
    follow_links: bool = False
    """Take photos in that a link brings in from outside the listing's folder. Else they are rejected."""
    prune: bool = False
    """Delete the rows of photos that the listing no longer has."""
    prune_at_most: float = 0.5
    """Part of a source's photos above which nothing is pruned: a disk that is not mounted looks like that."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    """With a Milvus that is gone or overloaded."""

    def __post_init__(self) -> None:
        if self.batch_rows < 1:
            raise ConfigError(f"a batch has at least one row, got {self.batch_rows}", setting="batch_rows")
        if not 0 <= self.prune_at_most <= 1:
            raise ConfigError(
                f"the fraction of photos above which nothing is pruned must be 0 to 1, got {self.prune_at_most}",
                setting="prune_at_most",
            )


DEFAULT_OPTIONS: Final = IngestOptions()


@dataclass(frozen=True)
class IngestResult:
    """What an ingest did."""

    stored: int
    """Rows written, new and changed ones."""
    unchanged: int
    """Photos that were in already, and are the same."""
    rejected: int
    """Photos that were not taken, by this run or by one before it."""
    reasons: dict[str, int]
    """Reason -> number of rejected files."""
    deleted: int
    """Photos whose row was deleted on purpose, and that stay out."""
    vanished: int
    """Photos of an earlier run that the listing no longer has."""
    pruned: int
    """How many of their rows were deleted; those that another listing has too stay."""
    seconds: float
    images_per_second: float
    """Files looked into per second: rejected ones are, unchanged ones are not."""
    rows_in_collection: int
