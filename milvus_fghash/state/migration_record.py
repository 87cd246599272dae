"""The record of a reindex: the new collection, the old one, and whether the last run was verified."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field

from milvus_fghash.core.file_models import Frozen, read_json, write_json


class ReindexRecord(Frozen):
    """A file beside the journal of the new collection: FOLDER/reindex-UID.json."""

    format: Literal[1] = 1
    old: str
    """Name of the collection that was served when this one was filled."""
    new: str
    fingerprint: str
    is_consistent: bool = Field(default=False, validation_alias=AliasChoices("is_consistent", "whole"))
    """Whether `verify` found nothing wrong at the end of the last run; False during a run. Records written before the
    name changed call it `whole`."""
    date: str = ""
    """End of the last run: UTC, ISO 8601."""

    @classmethod
    def read(cls, folder: Path, collection_uid: str) -> Self | None:
        """The record of a collection; None if there is none.

        Raises:
            DataError: if it cannot be read.
        """
        return read_json(record_file(folder, collection_uid), cls, "; run reindex again to write it anew")

    def finished(self, is_consistent: bool) -> Self:
        """The record of a run that has ended."""
        return self.model_copy(update={"is_consistent": is_consistent, "date": datetime.now(UTC).isoformat()})

    def write(self, folder: Path, collection_uid: str) -> None:
        """Write the file.

        Raises:
            DataError: if it cannot be written.
        """
        write_json(record_file(folder, collection_uid), self)


def record_file(folder: Path, collection_uid: str) -> Path:
    """The file of the record of a collection."""
    return folder / f"reindex-{collection_uid}.json"
