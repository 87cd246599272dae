"""What becomes of a photo file: a `Photo` or a `Refused`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.data.places import Source
from milvus_fghash.data.reading import Begun
from milvus_fghash.errors import ImageRefused
from milvus_fghash.image_formats import EXTRA
from milvus_fghash.images import Limits, Preprocessing, open_rgb, prepare, read_file
from milvus_fghash.perceptual import UNKNOWN, perceptual_hash


@dataclass(frozen=True)
class Refused:
    """A file that was not taken.

    Attributes:
        path: as it was given; of a place, how it is shown.
        reason: one word, as in `ImageRefused`; or `timeout` (over the time for one photo) or `crash` (two processes
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
    phash: int = UNKNOWN


def decode_one(row: int, source: Source | Begun, preprocessing: Preprocessing, limits: Limits) -> Photo | Refused:
    """A photo that takes more memory than there is, or than a worker may take, is refused as `broken`."""
    try:
        data = read_file(source, limits) if isinstance(source, Path) else source.read(limits.max_bytes)
        image = open_rgb(data, limits, preprocessing)
        pixels, phash = prepare(image, preprocessing), perceptual_hash(image)
    except ImageRefused as error:
        return Refused(shown(source), error.reason, str(error), row)
    except MemoryError:  # outside Pillow's decoders, whose own `load` refuses
        return Refused(shown(source), "broken", "the image cannot be decoded: it takes more memory than there is", row)
    return Photo(row, pixels, hashlib.sha256(data).hexdigest(), phash)


def advice(reasons: Mapping[str, int]) -> Iterator[str]:
    """What a person can do about photos that were refused, where it is the same for all of a reason.

    Args:
        reasons: how many photos were refused for which reason.
    """
    if extra := reasons.get("extra"):
        install = f"pip install 'milvus-fghash[{EXTRA}]'"
        yield f"photos refused as HEIC or AVIF: {extra:,}; to take them: {install}, and run it again"
    if pointers := reasons.get("pointer"):
        yield f"files that are Git LFS pointers: {pointers:,}; run git lfs pull in their repository, and this again"


def shown(source: Source | Begun) -> str:
    """How a photo's place is called in reports."""
    return str(source) if isinstance(source, Path) else source.shown
