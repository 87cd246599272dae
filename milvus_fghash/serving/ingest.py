"""Photos -> codes -> Milvus. A file that cannot be taken is reported; all the others get in."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.data.listing import Listing
from milvus_fghash.errors import StoreError
from milvus_fghash.images import DEFAULT_LIMITS, Limits
from milvus_fghash.serving.collection import HashCollection
from milvus_fghash.serving.decoding import TIMEOUT, WORKERS, Photo, Refused, batches, decode
from milvus_fghash.serving.encoder import Encoder
from milvus_fghash.serving.rows import Rows, check_fits, photo_id
from milvus_fghash.whole_file import write_whole

BATCH_ROWS: Final = 1000
"""Rows of one write. With the longest paths and labels they are 6 MB; Milvus takes 64."""


@dataclass(frozen=True)
class IngestResult:
    """What an ingest did."""

    stored: int
    """Rows written; a second run writes the same rows again under the same ids."""
    refused: int
    reasons: dict[str, int]
    """Reason -> number of refused files."""
    seconds: float
    images_per_second: float
    """Files per second, refused ones included."""
    rows_in_collection: int


@dataclass(frozen=True)
class _Coded:
    """What is kept of a photo between encoding and writing."""

    row: int
    content_sha: str
    code: NDArray[np.uint8]
    embedding: NDArray[np.float32] | None


def ingest(
    encoder: Encoder,
    listing: Listing,
    collection: HashCollection,
    namespace: str = "",
    *,
    batch_rows: int = BATCH_ROWS,
    report: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    workers: int = WORKERS,
    timeout: float = TIMEOUT,
    progress: Callable[[int, int], object] | None = None,
) -> IngestResult:
    """Encode the photos of a listing and write them; a second run over the same photos adds nothing.

    Memory grows with the number of refused files only. An interrupted run leaves whole batches.

    Args:
        namespace: part of every id, so that folders with the same file names can share a collection.
        batch_rows: rows of one write.
        report: file for one line of JSON (path, reason, message) for each refused file.
        workers: processes that decode, as in `decode`; 0 decodes in this one.
        timeout: seconds for one photo, where there are workers.
        progress: called with the number of files done, and of all.

    Raises:
        ConfigError: when the namespace cannot be, or no worker starts.
        DataError: when the report cannot be written.
        StoreError: when another model filled the collection, or Milvus refuses.
    """
    collection.check_model(encoder.bundle.manifest)
    photo_id(namespace, "")  # refuses a namespace that cannot be before any work
    if report:
        write_whole(report, b"")  # a report that cannot be written is known before the work, not after it
    started = time.monotonic()
    refused: list[Refused] = []
    stored = 0
    files = (listing.file(row) for row in range(len(listing)))
    decoded = decode(files, encoder.bundle.manifest.preprocessing, limits, workers, timeout)
    try:
        waiting: list[_Coded] = []
        for photos in batches(decoded, encoder.batch_size, refused.append):
            fitting = [photo for photo in photos if _fits(listing, photo.row, refused)]
            waiting += _encode(encoder, fitting, collection.embedding_dim is not None)
            if len(waiting) >= batch_rows:
                stored += _store(listing, collection, namespace, waiting)
                waiting = []
            if progress:
                progress(stored + len(waiting) + len(refused), len(listing))
        stored += _store(listing, collection, namespace, waiting)
    finally:  # an interrupted run tells what it refused, too
        decoded.close()
        if report:
            write_whole(report, _json_lines(listing, refused))
    seconds = time.monotonic() - started
    return IngestResult(
        stored=stored,
        refused=len(refused),
        reasons=dict(Counter(one.reason for one in refused)),
        seconds=seconds,
        images_per_second=len(listing) / seconds,
        rows_in_collection=collection.count(),
    )


def _encode(encoder: Encoder, photos: list[Photo], with_embedding: bool) -> list[_Coded]:
    if not photos:
        return []
    pixels = np.stack([photo.pixels for photo in photos])
    codes, *more = encoder.run(pixels, "embedding") if with_embedding else encoder.run(pixels)
    embeddings = more[0] if more else [None] * len(photos)
    return [
        _Coded(photo.row, photo.content_sha, code, embedding)
        for photo, code, embedding in zip(photos, codes, embeddings, strict=True)
    ]


def _store(listing: Listing, collection: HashCollection, namespace: str, coded: list[_Coded]) -> int:
    if not coded:
        return 0
    rows = Rows(
        ids=tuple(photo_id(namespace, listing.paths[one.row]) for one in coded),
        codes=np.stack([one.code for one in coded]),
        paths=tuple(listing.paths[one.row] for one in coded),
        labels=tuple(listing.labels[one.row] for one in coded),
        content_shas=tuple(one.content_sha for one in coded),
        metas=tuple(_meta(listing.splits[one.row], namespace) for one in coded),
    )
    embeddings = [one.embedding for one in coded if one.embedding is not None]
    return collection.upsert(rows, np.stack(embeddings) if embeddings else None)


def _meta(split: str, namespace: str) -> dict[str, str]:
    known = {"split": split, "namespace": namespace}
    return {name: value for name, value in known.items() if value}


def _fits(listing: Listing, row: int, refused: list[Refused]) -> bool:
    """Whether path and label fit the columns; one that does not must not stop the others."""
    path = listing.paths[row]
    try:
        check_fits("path", path)
        check_fits("label", listing.labels[row])
    except StoreError as error:
        refused.append(Refused(path, "name", str(error), row))
        return False
    return True


def _json_lines(listing: Listing, refused: list[Refused]) -> bytes:
    lines = ({"path": listing.paths[one.row], "reason": one.reason, "message": one.message} for one in refused)
    return "".join(json.dumps(line) + "\n" for line in lines).encode()
