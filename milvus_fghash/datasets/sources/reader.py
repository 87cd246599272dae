"""Reading photos that are not local files: from URLs, archives and memory."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from milvus_fghash.core.bounded_file import open_regular
from milvus_fghash.core.images import DEFAULT_LIMITS
from milvus_fghash.datasets.sources.fetch import fetch
from milvus_fghash.datasets.sources.location import FETCH_TIMEOUT_SECONDS, InMemory, InvalidSource, PhotoLocation, Url
from milvus_fghash.errors import ImageRejected

ZIP_HEADER_BYTES: Final = 30
"""Size of the header of a zip member, before its name."""


@dataclass(frozen=True, slots=True)
class PendingRead:
    """A photo whose bytes are being fetched.

    Attributes:
        display_name: as in `PhotoLocation`.
        read: waits for the bytes; raises as `read_source`.
        future: done when the bytes have arrived; None for a local file.
    """

    display_name: str
    read: Callable[[int], bytes]
    future: Future[bytes] | None = None


def start_read(location: PhotoLocation, max_bytes: int, seconds: float = FETCH_TIMEOUT_SECONDS) -> PendingRead:
    """Start to read. A URL is fetched in the background.

    Args:
        max_bytes: as in `read_source`.
        seconds: timeout for a URL; a local file has none.

    Raises:
        MissingExtra: when the packages for the URL are not installed.
    """
    header = ZIP_HEADER_BYTES + 2 * 0xFFFF if location.zipped else 0  # name and extra field have up to 64 KB each
    wanted = header + max_bytes + 1 if location.size is None else min(location.size, header + max_bytes + 1)
    if location.is_remote:
        future = fetch(location, wanted, seconds)
        return PendingRead(
            location.display_name, lambda max_bytes: _checked(location, future.result(), max_bytes), future
        )
    return PendingRead(
        location.display_name, lambda max_bytes: _checked(location, _from_file(location, wanted), max_bytes)
    )


def read_source(
    source: PhotoLocation | InvalidSource | InMemory | PendingRead,
    max_bytes: int,
    seconds: float = FETCH_TIMEOUT_SECONDS,
) -> bytes:
    """The bytes of a photo that is not a local file, decompressed.

    Args:
        max_bytes: a larger photo is rejected. For one in memory, the decoder checks the size.
        seconds: timeout for a URL.

    Raises:
        ImageRejected: `missing`, `empty`, `too-large`, `truncated`, `broken`; `timeout` and `unreachable`, which may
            be temporary; for an `InvalidSource`, its own reason.
        MissingExtra: when the packages for a URL are not installed.
    """
    match source:
        case PhotoLocation():
            return start_read(source, max_bytes, seconds).read(max_bytes)
        case InvalidSource():
            raise ImageRejected(source.reason, source.message)
        case InMemory():
            return source.data
        case PendingRead():
            return source.read(max_bytes)


def image_source(photo: Path | Url) -> Path | bytes:
    """The input of `images.open_rgb` for a path or a URL: the path, or the bytes behind the URL.

    Raises:
        ImageRejected, MissingExtra: as `read_source`.
    """
    if isinstance(photo, Path):
        return photo
    return read_source(PhotoLocation(photo.full, str(photo)), DEFAULT_LIMITS.max_bytes)


def _from_file(location: PhotoLocation, wanted: int) -> bytes:
    try:
        with open_regular(Path(location.address)) as file:
            status = os.fstat(file.fileno())
            if not location.revision.startswith(f"{status.st_size} {status.st_mtime_ns} "):
                raise ImageRejected(
                    "broken",
                    f"{location.display_name} cannot be read: its archive has changed meanwhile; run the command again",
                )
            file.seek(location.start)
            return file.read(wanted)
    except FileNotFoundError:
        raise ImageRejected("missing", f"{location.display_name} is missing: its archive no longer exists") from None
    except OSError as error:
        raise ImageRejected("broken", f"{location.display_name} cannot be read: {error.strerror}") from None


def _checked(location: PhotoLocation, raw: bytes, max_bytes: int) -> bytes:
    data = _unzipped(location, raw, max_bytes) if location.zipped else raw
    if not data and not location.size:
        raise ImageRejected("empty", f"{location.display_name} has zero bytes")
    if len(data) > max_bytes:
        raise ImageRejected("too-large", f"{location.display_name} has more than the allowed {max_bytes:,} bytes")
    if location.size is not None and not location.zipped and len(data) < location.size:
        raise _cut_off(location)
    return data


def _unzipped(location: PhotoLocation, raw: bytes, max_bytes: int) -> bytes:
    """The content of a zip member, at most one byte more than allowed, so that no zip bomb expands."""
    assert location.zipped
    method, compressed_size, checksum = location.zipped
    name, extra = (int.from_bytes(raw[at : at + 2], "little") for at in (26, 28))
    start = ZIP_HEADER_BYTES + name + extra
    if raw[:4] != b"PK\x03\x04":
        raise ImageRejected("broken", f"{location.display_name} has no zip header; has the archive changed?")
    body = raw[start : start + compressed_size]
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, max_bytes + 1) if method else body
    except zlib.error as error:
        raise ImageRejected("broken", f"{location.display_name} cannot be decompressed: {error}") from None
    if len(data) <= max_bytes and len(body) < compressed_size:
        raise _cut_off(location)
    if len(data) <= max_bytes and zlib.crc32(data) != checksum:
        raise ImageRejected(
            "broken", f"{location.display_name} is damaged: its checksum differs from that in the archive"
        )
    return data


def _cut_off(location: PhotoLocation) -> ImageRejected:
    return ImageRejected("truncated", f"{location.display_name} is truncated; is its archive complete?")
