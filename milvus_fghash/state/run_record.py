"""What a run did, kept beside the journal: when, with which model and programs, how it ended, how many photos."""

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
from milvus_fghash.core.masking import masked
from milvus_fghash.core.packages import versions_of
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import FghashError, Stopped
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import probe
from milvus_fghash.state.journal import Journal

PACKAGES = ("numpy", "Pillow", "pymilvus", "onnxruntime", "onnxruntime-gpu", "milvus-lite")


def places_of_photos(folder: Path) -> set[Path]:
    """Folders and lists that the runs with a record in the journal's folder took photos from."""
    found = set()
    for file in folder.glob("runs/*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # made by another version, or damaged
            found.add(Path(parse_json(read_bounded(file, MAX_RECORD_BYTES))["source"]["photos"]))
    return found


@dataclass
class RunRecord:
    """Filled as the run goes; `write` keeps it."""

    what: str
    facts: dict[str, Any]
    started: datetime
    counts: Any = None
    """A dataclass of numbers; None where the run did not get there."""
    ended: str = ""
    """`done`, `stopped`, `interrupted`, or what went wrong."""

    @classmethod
    def begun(cls, what: str, encoder: Encoder, collection: HashCollection, source: Mapping[str, str]) -> Self:
        """The record of a run that begins now.

        Raises:
            StoreError: when Milvus does not tell its version.
        """
        able = probe(collection.client)
        facts = {
            "source": dict(source),
            "collection": collection.name,
            "model": collection.metadata.model_dump(include={"method", "lineage", "fingerprint", "bits"}),
            "provider": encoder.provider,
            "versions": {
                "milvus-fghash": __version__,
                "python": platform.python_version(),
                "milvus": f"{able.kind} {able.version}",
                **versions_of(PACKAGES),
            },
        }
        return cls(what, facts, datetime.now(UTC))

    @contextmanager
    def outcome(self) -> Iterator[None]:
        """How the block ends, is how the run ended."""
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
        """Keep it beside the journal; one in memory keeps none.

        Raises:
            DataError: when the disk rejects.
        """
        if journal.folder is None:
            return
        ended = datetime.now(UTC)
        times = {"started": self.started.isoformat(), "ended": ended.isoformat()}
        counts = None if self.counts is None else asdict(self.counts)
        document = {"what": self.what, **times, "outcome": self.ended, "counts": counts, **self.facts}
        raw = json.dumps(document, indent=2, allow_nan=False) + "\n"
        write_atomic(journal.folder / "runs" / f"{self.started:%Y%m%dT%H%M%S.%fZ}.json", raw.encode())
