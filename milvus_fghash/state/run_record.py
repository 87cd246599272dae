"""The record of a run, a JSON file beside the journal: times, model, versions of packages, counts and outcome."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from milvus_fghash._version import __version__
from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.bounded_file import MAX_RECORD_BYTES, read_bounded
from milvus_fghash.core.environment import versions_of
from milvus_fghash.core.masking import masked
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import FghashError, Stopped
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import probe
from milvus_fghash.state.journal import Journal

PACKAGES = ("numpy", "Pillow", "pymilvus", "onnxruntime", "onnxruntime-gpu", "milvus-lite")


def photo_sources(folder: Path) -> set[Path]:
    """The sources of photos of all runs with a record in the folder of a journal."""
    found = set()
    for file in folder.glob("runs/*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # damaged, or written by another version
            found.add(Path(parse_json(read_bounded(file, MAX_RECORD_BYTES))["source"]["photos"]))
    return found


@dataclass
class RunRecord:
    """Filled during the run; `write` stores it."""

    command: str
    facts: dict[str, Any]
    started: datetime
    counts: Any = None
    """A dataclass of numbers; None if the run did not complete."""
    ended: str = ""
    """`done`, `stopped`, `interrupted`, or `failed: ` and the error."""

    @classmethod
    def begin(cls, command: str, encoder: Encoder, collection: HashCollection, source: Mapping[str, str]) -> Self:
        """The record of a run that begins now.

        Raises:
            StoreError: if Milvus does not answer.
        """
        milvus = probe(collection.client)
        facts = {
            "source": dict(source),
            "collection": collection.name,
            "model": collection.metadata.model_dump(include={"method", "lineage", "fingerprint", "bits"}),
            "provider": encoder.provider,
            "versions": {
                "milvus-fghash": __version__,
                "python": platform.python_version(),
                "milvus": f"{milvus.kind} {milvus.version}",
                **versions_of(PACKAGES),
            },
        }
        return cls(command, facts, datetime.now(UTC))

    @contextmanager
    def outcome(self) -> Iterator[None]:
        """Record how the block ends as the outcome of the run."""
        try:
            yield
        except Stopped:
            self.ended = "stopped"
            raise
        except FghashError as error:
            self.ended = f"failed: {error}"
            raise
        except BaseException as error:
            self.ended = "interrupted" if isinstance(error, KeyboardInterrupt) else masked(f"failed: {error!r}")
            raise
        self.ended = "done"

    def write(self, journal: Journal) -> None:
        """Write the record beside the journal, unless that is in memory.

        Raises:
            DataError: if the file cannot be written.
        """
        if journal.folder is None:
            return
        ended = datetime.now(UTC)
        times = {"started": self.started.isoformat(), "ended": ended.isoformat()}
        counts = None if self.counts is None else asdict(self.counts)
        document = {"what": self.command, **times, "outcome": self.ended, "counts": counts, **self.facts}
        raw = json.dumps(document, indent=2, allow_nan=False) + "\n"
        write_atomic(journal.folder / "runs" / f"{self.started:%Y%m%dT%H%M%S.%fZ}.json", raw.encode())
