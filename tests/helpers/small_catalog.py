"""A folder of small photos, a collection on Milvus Lite, and the journal between them."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from milvus_fghash.datasets.read import read
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.ingest.api import IngestOptions, IngestResult, RunContext, ingest
from milvus_fghash.ingest.changes import Changes
from milvus_fghash.ingest.verify import Verification, repair, verify
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.state.journal import Journal

N = 40
EIGHT = IngestOptions(rows_per_write=8, workers=0)
HERE = IngestOptions(workers=0)
"""Photos are decoded in this process."""


def draw_photos(root: Path) -> Path:
    """40 pictures of random colours."""
    root.mkdir()
    for number, colour in enumerate(np.random.default_rng(0).integers(0, 256, (N, 3))):
        Image.new("RGB", (20, 20), tuple(int(value) for value in colour)).save(root / f"{number:02}.png")
    return root


def paint(file: Path, colour: str) -> None:
    """Another picture of the same size in bytes may have the same time on a coarse clock, so the time is moved on."""
    Image.new("RGB", (20, 20), colour).save(file)
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))


@dataclass
class Catalog:
    """All of it."""

    encoder: Encoder
    photos: Path
    collection: HashCollection
    folder: Path
    """Of the journal."""

    def open_journal(self) -> closing[Journal]:
        return closing(Journal.open(self.folder, self.collection.uid))

    def ingest(self, options: IngestOptions = EIGHT, *, part: str = "", **more: Any) -> IngestResult:
        dataset, context = (
            replace(read("folder", self.photos), selected_splits=part),
            RunContext(options=options, **more),
        )
        with self.open_journal() as journal:
            return ingest(self.encoder, dataset, self.collection, context, journal=journal)

    def verify(self, *, and_mend: bool = False, delete_extra: bool = False, seed: int = 0) -> Verification:
        dataset = read("folder", self.photos)
        with self.open_journal() as journal:
            found = verify(self.encoder, self.collection, Changes(dataset, "", journal), 20, seed)
            if and_mend:
                repair(self.collection, journal, found, delete_extra=delete_extra)
            return found

    def contents(self) -> dict[str, tuple[bytes, str]]:
        """Path -> code and content_sha of the row."""
        return {
            path: (code.tobytes(), sha)
            for rows in self.collection.scan()
            for path, code, sha in zip(rows.paths, rows.codes, rows.content_shas, strict=True)
        }
