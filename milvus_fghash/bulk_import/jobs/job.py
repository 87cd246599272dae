"""Import jobs of a Milvus server, whichever way it takes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Job:
    """An import under way, or one that ended."""

    id: str
    state: Literal["under way", "completed", "failed"]
    percent: int
    reason: str
    """Why it failed, in the server's words."""
    files: str
    """A text that holds the names of its files."""


class Jobs(Protocol):
    """Import jobs into one collection. Calls raise `StoreBusy` where the same call may go through later."""

    keyed: bool
    """Whether asking again under the same key gives the same job."""

    def create(self, file: str, key: str) -> str | None:
        """Ask for the import of a file; the id of the job.

        None when no answer came, so that there may be a job or none.

        Raises:
            StoreError: when the server rejects.
        """
        ...

    def get(self, job: str) -> Job | None:
        """What became of a job; None when the server knows none of that id (any more).

        Raises:
            StoreError: when the server does not say.
        """
        ...

    def under_way(self) -> Iterator[Job]:
        """Those that have not ended.

        Raises:
            StoreError: when the server does not say.
        """
        ...
