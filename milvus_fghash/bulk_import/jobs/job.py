"""Interface to the import jobs of a Milvus server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Job:
    """A running or finished import."""

    id: str
    state: Literal["running", "completed", "failed"]
    percent: int
    reason: str
    """Why it failed, as the server says."""
    files: str
    """A text that contains the names of its files."""


class Jobs(Protocol):
    """Import jobs for one collection. Calls raise `StoreBusy` when the same call may succeed later."""

    keyed: bool
    """Whether a repeated request with the same key returns the same job."""

    def create(self, file: str, key: str) -> str | None:
        """Request the import of a file, and return the id of the job.

        None when no answer came, so that there may be a job or none.

        Raises:
            StoreError: when the server rejects the request.
        """
        ...

    def get(self, job: str) -> Job | None:
        """The state of a job; None when the server does not know the id (any more).

        Raises:
            StoreError: when the server returns an error.
        """
        ...

    def under_way(self) -> Iterator[Job]:
        """The running jobs.

        Raises:
            StoreError: when the server returns an error.
        """
        ...
