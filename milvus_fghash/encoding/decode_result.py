"""What becomes of a photo file: a `Photo` or a `Rejected`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.image_formats import EXTRA
from milvus_fghash.core.images import Limits, Preprocessing, open_rgb, prepare, read_file
from milvus_fghash.core.perceptual_hash import NO_HASH, perceptual_hash
from milvus_fghash.datasets.sources.location import Source
from milvus_fghash.datasets.sources.reader import PendingRead, read_source
from milvus_fghash.errors import ImageRejected


@dataclass(frozen=True)
class Rejected:
    """A file that was not taken.

    Attributes:
        path: as it was given; of a place, how it is shown.
        reason: one word, as in `ImageRejected`; or `timeout` (over the time for one photo) or `crash` (two processes
            died of it), which only workers know.
        message: one sentence.
        row: its position among the paths.
    """

    path: str
    reason: str
    message: str
    row: int


@dataclass(frozen=True)
class Photo:
    """A file that was decoded.

    Attributes:
        row: its position among the paths.
        pixels: (size, size, 3) uint8.
        content_sha: SHA-256 of the file, of the same bytes that were decoded.
        phash: perceptual hash of the whole picture.
    """

    row: int
    pixels: NDArray[np.uint8]
    content_sha: str
    phash: int = NO_HASH


def decode_one(
    row: int, source: Source | PendingRead, preprocessing: Preprocessing, limits: Limits
) -> Photo | Rejected:
    """A photo that takes more memory than there is, or than a worker may take, is rejected as `broken`."""
    try:
        data = read_file(source, limits) if isinstance(source, Path) else read_source(source, limits.max_bytes)
        image = open_rgb(data, limits, preprocessing)
        pixels, phash = prepare(image, preprocessing), perceptual_hash(image)
    except ImageRejected as error:
        return Rejected(shown(source), error.reason, str(error), row)
    except MemoryError:  # outside Pillow's decoders, whose own `load` rejects
        return Rejected(shown(source), "broken", "the image cannot be decoded: it takes more memory than there is", row)
    return Photo(row, pixels, hashlib.sha256(data).hexdigest(), phash)


def advice(reasons: Mapping[str, int]) -> Iterator[str]:
    """What a person can do about photos that were rejected, where it is the same for all of a reason.

    Args:
        reasons: how many photos were rejected for which reason.
    """
    if extra := reasons.get("extra"):
        install = f"pip install 'milvus-fghash[{EXTRA}]'"
        yield f"photos rejected as HEIC or AVIF: {extra:,}; to take them: {install}, and run it again"
    if pointers := reasons.get("pointer"):
        yield f"files that are Git LFS pointers: {pointers:,}; run git lfs pull in their repository, and this again"


def shown(source: Source | PendingRead) -> str:
    """How a photo's place is called in reports."""
    return str(source) if isinstance(source, Path) else source.display_name
