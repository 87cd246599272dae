"""What is known of a collection that was filled beside another: `promote` asks for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from milvus_fghash.config import Frozen, read_model
from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.whole_file import write_whole


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
        file = record_file(folder, born)
        try:
            return read_model(cls, json.loads(file.read_bytes()), str(file))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, ConfigError) as error:
            raise DataError(f"cannot read {file}: {error}; reindex again writes it anew") from None

    def finished(self, whole: bool) -> Self:
        """The record of a run that came to its end."""
        return self.model_copy(update={"whole": whole, "date": datetime.now(UTC).isoformat()})

    def write(self, folder: Path, born: str) -> None:
        """Keep it.

        Raises:
            DataError: when the disk refuses.
        """
        write_whole(record_file(folder, born), (self.model_dump_json(indent=2) + "\n").encode())


def record_file(folder: Path, born: str) -> Path:
    """Where the record of a collection lies."""
    return folder / f"reindex-{born}.json"
