"""The result of decoding a photo: a `Photo` or a `Rejected`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import SkipValidation

from milvus_fghash.core.image_formats import EXTRA
from milvus_fghash.core.images import Limits, Preprocessing, open_rgb, prepare, read_file
from milvus_fghash.core.perceptual_hash import NO_HASH, perceptual_hash
from milvus_fghash.datasets.sources.location import Source
from milvus_fghash.datasets.sources.reader import PendingRead, read_source
from milvus_fghash.errors import ImageRejected


@dataclass(frozen=True)
class Rejected:
    """A photo that was not accepted.

    Attributes:
        path: as it was given; of a photo that is not a file, the location as messages show it.
        reason: one word, such as ``format`` or ``truncated`` (`ImageRejected`), ``timeout`` (decoding took too long) or
            ``crash`` (two worker processes died while they decoded it).
        message: one sentence.
    """

    path: SkipValidation[str]  # file names need not be UTF-8
    reason: str
    message: SkipValidation[str]


@dataclass(frozen=True)
class RejectedSource(Rejected):
    """`Rejected` by the decoder.

    Attributes:
        row: position among the sources.
    """

    row: int


@dataclass(frozen=True)
class Photo:
    """A photo that was decoded.

    Attributes:
        row: position among the sources.
        pixels: (size, size, 3) uint8.
        content_sha: SHA-256 of the bytes that were decoded.
        phash: perceptual hash of the whole photo.
    """

    row: int
    pixels: NDArray[np.uint8]
    content_sha: str
    phash: int = NO_HASH


def decode_one(
    row: int, source: Source | PendingRead, preprocessing: Preprocessing, limits: Limits
) -> Photo | RejectedSource:
    """Decode a photo. One that needs more memory than there is, or than a worker may use, is rejected as `broken`."""
    try:
        data = read_file(source, limits) if isinstance(source, Path) else read_source(source, limits.max_bytes)
        image = open_rgb(data, limits, preprocessing)
        pixels, phash = prepare(image, preprocessing), perceptual_hash(image)
    except ImageRejected as error:
        return RejectedSource(shown(source), error.reason, str(error), row)
    except MemoryError:  # outside Pillow's decoders, whose own `load` rejects
        return RejectedSource(
            shown(source), "broken", "the image cannot be decoded: it takes more memory than there is", row
        )
    return Photo(row, pixels, hashlib.sha256(data).hexdigest(), phash)


def advice(reasons: Mapping[str, int]) -> Iterator[str]:
    """What to do about rejected photos, for reasons that have one remedy.

    Args:
        reasons: reason -> number of rejected photos.
    """
    if extra := reasons.get("extra"):
        install = f"pip install 'milvus-fghash[{EXTRA}]'"
        yield f"photos rejected as HEIC or AVIF: {extra:,}; to take them: {install}, and run it again"
    if pointers := reasons.get("pointer"):
        yield f"files that are Git LFS pointers: {pointers:,}; run git lfs pull in their repository, and this again"


def shown(source: Source | PendingRead) -> str:
    """How reports show the location of a photo."""
    return str(source) if isinstance(source, Path) else source.display_name
