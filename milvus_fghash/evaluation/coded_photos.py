"""Photos that were encoded for an evaluation: their codes, classes, and what identifies them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.codes import Codes
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import DataError

MAX_REJECTED_LOGGED: Final = 20
"""Rejected photos of a split that are logged by name."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CodedPhotos:
    """Codes and classes of photos, and the number of rejected photos."""

    codes: Codes
    labels: tuple[str, ...]
    shas: tuple[str, ...] = ()
    """SHA-256 of each file; in a collection "" where it is unknown."""
    ids: tuple[str, ...] = ()
    """Ids of the photos in their dataset; none in a collection, and for learned codes."""
    embedding: NDArray[np.float32] | None = None
    rejected: int = 0

    def take(self, rows: Sequence[int]) -> CodedPhotos:
        """Some of the photos, none of them rejected."""
        return CodedPhotos(
            self.codes[rows],
            tuple(self.labels[row] for row in rows),
            tuple(self.shas[row] for row in rows),
            tuple(self.ids[row] for row in rows) if self.ids else (),
            None if self.embedding is None else self.embedding[rows],
        )

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Id -> row."""
        return {key: row for row, key in enumerate(self.ids)}

    def photos(self, wanted: Dataset) -> CodedPhotos:
        """The photos of a dataset, in its order; those that are not among these were rejected."""
        found = self.take([self.row_of[key] for key in wanted.ids if key in self.row_of])
        return replace(found, rejected=len(wanted) - len(found.ids))


def encode_once(
    encoder: Encoder,
    dataset: Dataset,
    wanted: Mapping[str, Dataset],
    query_split: str,
    options: DecodeOptions,
    progress: Progress,
) -> CodedPhotos:
    """The photos of all wanted splits, each encoded once: the queries, then the others."""
    asking = set(wanted[query_split].ids)
    stored = {key for photos in wanted.values() for key in photos.ids} - asking
    parts = [encode_dataset(encoder, wanted[query_split], options, "query", progress)]
    if stored:
        rows = [row for row, key in enumerate(dataset.ids) if key in stored]
        parts.append(encode_dataset(encoder, dataset.take(rows), options, "gallery", progress))
    return CodedPhotos(
        np.concatenate([part.codes for part in parts]),
        tuple(itertools.chain(*(part.labels for part in parts))),
        tuple(itertools.chain(*(part.shas for part in parts))),
        tuple(itertools.chain(*(part.ids for part in parts))),
        _joined([part.embedding for part in parts]),
    )


def _joined(embeddings: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    there = [one for one in embeddings if one is not None]
    return np.concatenate(there) if there else None


def encode_dataset(
    encoder: Encoder, photos: Dataset, options: DecodeOptions, role: str, progress: Progress
) -> CodedPhotos:
    """The codes of photos; ``role`` names them in messages, "query" or "gallery".

    Raises:
        DataError: when none can be read.
    """
    sources = [photos.source(row) for row in range(len(photos))]
    with_embedding = encoder.embedding_dim is not None
    encoded = encoder.encode_files(sources, options, embedding=with_embedding, progress=progress)
    if not len(encoded.codes):
        first = encoded.rejected[0]
        raise DataError(f"none of the {len(photos)} {role} photos can be read; the first: {first.message}")
    for rejected in encoded.rejected[:MAX_REJECTED_LOGGED]:
        log.warning("%s photo %s rejected (%s): %s", role, rejected.path, rejected.reason, rejected.message)
    if len(encoded.rejected) > MAX_REJECTED_LOGGED:
        log.warning("and %d more %s photos", len(encoded.rejected) - MAX_REJECTED_LOGGED, role)
    kept = photos.take(encoded.rows)
    shas, embedding = encoded.content_shas, encoded.embedding
    return CodedPhotos(encoded.codes, kept.labels, shas, kept.ids, embedding, len(encoded.rejected))
