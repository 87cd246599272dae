"""What is known of a collection that was filled beside another: `promote` asks for it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from milvus_fghash.core.file_models import Frozen, read_json, write_json


class ReindexRecord(Frozen):
    """Lies beside the journal of the new collection, FOLDER/reindex-BORN.json."""

    format: Literal[1] = 1
    old: str
    """The collection beside which it was filled."""
    new: str
    fingerprint: str
    whole: bool = False
    """Whether `verify` found nothing wrong when the last run came to its end; False while one is under way."""
    date: str = ""
    """When that was: UTC, ISO 8601."""

    @classmethod
    def read(cls, folder: Path, born: str) -> Self | None:
        """The record of a collection; None where there is none.

        Raises:
            DataError: when it cannot be understood.
        """
        return read_json(record_file(folder, born), cls, "; reindex again writes it anew")

    def finished(self, whole: bool) -> Self:
        """The record of a run that came to its end."""
        return self.model_copy(update={"whole": whole, "date": datetime.now(UTC).isoformat()})

    def write(self, folder: Path, born: str) -> None:
        """Keep it.

        Raises:
            DataError: when the disk rejects.
        """
        write_json(record_file(folder, born), self)


def record_file(folder: Path, born: str) -> Path:
    """Where the record of a collection lies."""
    return folder / f"reindex-{born}.json"
