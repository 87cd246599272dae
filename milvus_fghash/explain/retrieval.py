"""What a query finds: the nearest photos of the gallery, as Milvus would order them, without Milvus."""

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
class Coded:
    """Photos of a list that could be decoded.

    Attributes:
        rows: (n_kept,) their positions in the list.
        codes: (n_kept, n_bytes).
        bit_scores: (n_kept, n_bits), how strongly each bit is on.
        rejected: the others.
    """

    rows: NDArray[np.int64]
    codes: Codes
    bit_scores: Logits
    rejected: tuple[RejectedSource, ...]


@dataclass(frozen=True)
class Hit:
    """A photo that was found: its row in the gallery, and the number of bits that differ."""

    row: int
    distance: int


@dataclass(frozen=True)
class Retrieved:
    """The nearest photos of one query.

    Attributes:
        hits: by distance, then by id.
        cut: photos left out that are as near as the last hit.
    """

    hits: tuple[Hit, ...]
    cut: int


def encode(model: Model, files: Sequence[Path], report: Progress = lambda done, total: None) -> Coded:
    """Files -> codes and bit scores of a model; those that cannot be decoded are listed, not raised."""
    rejected: list[RejectedSource] = []
    rows: list[int] = []
    codes = [np.zeros((0, code_bytes(model.bits)), np.uint8)]
    bit_scores = [np.zeros((0, model.bits), np.float32)]
    with closing(decode(files, model.preprocessing, DecodeOptions().for_photos(len(files)))) as decoded:
        for photos in batches(decoded, BATCH, rejected.append):
            answers = model.run(np.stack([photo.pixels for photo in photos]))
            codes.append(answers.codes)
            bit_scores.append(answers.bit_scores)
            rows.extend(photo.row for photo in photos)
            report(len(rows) + len(rejected), len(files))
    return Coded(np.array(rows, np.int64), np.concatenate(codes), np.concatenate(bit_scores), tuple(rejected))


def nearest(query: Codes, gallery: Coded, ids: Sequence[str], k: int, itself: str | None = None) -> Retrieved:
    """The ``k`` nearest photos of a gallery to one code, (1, n_bytes).

    Args:
        ids: of all photos of the gallery's list, decoded or not.
        itself: id of the query's own photo, which is left out.
    """
    distances = hamming(query, gallery.codes)[0]
    hits = sorted((int(distance), ids[row], int(row)) for distance, row in zip(distances, gallery.rows, strict=True))
    others = [Hit(row, distance) for distance, key, row in hits if key != itself]
    last = others[:k][-1].distance if others else 0
    return Retrieved(tuple(others[:k]), sum(hit.distance == last for hit in others[k:]))
