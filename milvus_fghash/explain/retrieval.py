"""Codes of photos, and the nearest photos of a code: as Milvus would order them, without Milvus."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.codes import Codes, Logits, code_bytes, hamming
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import RejectedSource, batches, decode
from milvus_fghash.explain.model import BATCH, Model


@dataclass(frozen=True)
class EncodedPhotos:
    """The photos of a list that could be decoded, with their codes.

    Attributes:
        rows: (n,) their positions in the list.
        codes: (n, n_bytes).
        bit_scores: (n, n_bits), how strongly each bit is on.
        rejected: the photos that could not be decoded.
        most_active: (n_sources,) the position in the list of the photo for which each of the model's sources is most
            active; None if the model has no sources.
    """

    rows: NDArray[np.int64]
    codes: Codes
    bit_scores: Logits
    rejected: tuple[RejectedSource, ...]
    most_active: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Neighbour:
    """A photo near a query: its row in the gallery, and the number of bits that differ."""

    row: int
    distance: int


@dataclass(frozen=True)
class Neighbours:
    """The nearest photos of one query.

    Attributes:
        photos: ordered by distance, then by id.
        ties_left_out: number of photos left out that are as near as the last one.
    """

    photos: tuple[Neighbour, ...]
    ties_left_out: int


def encode(model: Model, files: Sequence[Path], progress: Progress = lambda done, total: None) -> EncodedPhotos:
    """Encode files; those that cannot be decoded are listed, not raised."""
    rejected: list[RejectedSource] = []
    rows: list[int] = []
    codes = [np.zeros((0, code_bytes(model.bits)), np.uint8)]
    bit_scores = [np.zeros((0, model.bits), np.float32)]
    most_active: NDArray[np.int64] | None = None
    activity: Logits = np.zeros(0)
    with closing(decode(files, model.preprocessing, DecodeOptions().for_photos(len(files)))) as decoded:
        for photos in batches(decoded, BATCH, rejected.append):
            outputs = model.run(np.stack([photo.pixels for photo in photos]))
            codes.append(outputs.codes)
            bit_scores.append(outputs.bit_scores)
            rows.extend(photo.row for photo in photos)
            if outputs.activities is not None:
                best = outputs.activities.argmax(axis=0)
                value, place = outputs.activities.max(axis=0), np.array([photo.row for photo in photos])[best]
                if most_active is None:
                    most_active, activity = place, value
                most_active, activity = np.where(value > activity, place, most_active), np.maximum(value, activity)
            progress(len(rows) + len(rejected), len(files))
    return EncodedPhotos(
        np.array(rows, np.int64), np.concatenate(codes), np.concatenate(bit_scores), tuple(rejected), most_active
    )


def nearest(query: Codes, gallery: EncodedPhotos, ids: Sequence[str], k: int, own_id: str | None = None) -> Neighbours:
    """The ``k`` nearest photos of a gallery to one code, (1, n_bytes).

    Args:
        ids: of all photos in the gallery's list, decoded or not.
        own_id: id of the query's own photo, which is left out.
    """
    distances = hamming(query, gallery.codes)[0]
    ranked = sorted((int(distance), ids[row], int(row)) for distance, row in zip(distances, gallery.rows, strict=True))
    others = [Neighbour(row, distance) for distance, key, row in ranked if key != own_id]
    last = others[:k][-1].distance if others else 0
    return Neighbours(tuple(others[:k]), sum(other.distance == last for other in others[k:]))
