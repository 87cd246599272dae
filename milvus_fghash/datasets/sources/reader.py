"""The bytes of a `PhotoLocation`: of a file here, or fetched; whole, a part, or a member of a zip."""

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
"""Bytes of a member's header in a zip, before its name."""


@dataclass(frozen=True, slots=True)
class PendingRead:
    """Bytes that are on their way.

    Attributes:
        shown: how their place is called.
        read: waits for them; raises as `read_source`.
        coming: done when they are here; None when nothing has to be waited for.
    """

    display_name: str
    read: Callable[[int], bytes]
    coming: Future[bytes] | None = None


def start_read(place: PhotoLocation, max_bytes: int, seconds: float = FETCH_TIMEOUT_SECONDS) -> PendingRead:
    """Start to read. What is behind a URL comes while the caller does something else.

    Args:
        seconds: after which bytes that are not there are given up. A file here knows no such limit.

    Raises:
        MissingExtra: when the packages for the URL are not installed.
    """
    packed = (
        max_bytes + ZIP_HEADER_BYTES + 2 * 0xFFFF if place.zipped else max_bytes
    )  # name and extra field have 64 KB each
    wanted = packed + 1 if place.size is None else min(place.size, packed + 1)
    if place.is_remote:
        coming = fetch(place, wanted, seconds)
        return PendingRead(place.display_name, lambda max_bytes: _checked(place, coming.result(), max_bytes), coming)
    return PendingRead(place.display_name, lambda max_bytes: _checked(place, _from_file(place, wanted), max_bytes))


def read_source(
    source: PhotoLocation | InvalidSource | InMemory | PendingRead,
    max_bytes: int,
    seconds: float = FETCH_TIMEOUT_SECONDS,
) -> bytes:
    """The bytes of a photo that is no file of its own, decompressed.

    Args:
        max_bytes: a larger photo is rejected. Of one in memory, the decoder says how many are too many.
        seconds: as in `begin`.

    Raises:
        ImageRejected: `missing`, `empty`, `too-large`, `truncated`, `broken`; `timeout` and `unreachable`, which may
            go away by themselves; of an `InvalidSource`, its own reason.
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


def image_source(place: Path | Url) -> Path | bytes:
    """A photo as `images.open_rgb` takes it: the file, or what is behind the URL.

    Raises:
        ImageRejected, MissingExtra: as `read_source`.
    """
    if isinstance(place, Path):
        return place
    return read_source(PhotoLocation(place.full, str(place)), DEFAULT_LIMITS.max_bytes)


def _from_file(place: PhotoLocation, wanted: int) -> bytes:
    try:
        with open_regular(Path(place.address)) as file:
            status = os.fstat(file.fileno())
            if not place.revision.startswith(f"{status.st_size} {status.st_mtime_ns} "):
                raise ImageRejected(
                    "broken", f"{place.display_name} cannot be read: its archive has changed since; run it again"
                )
            file.seek(place.start)
            return file.read(wanted)
    except FileNotFoundError:
        raise ImageRejected("missing", f"{place.display_name} is gone: its archive does not exist any more") from None
    except OSError as error:
        raise ImageRejected("broken", f"{place.display_name} cannot be read: {error.strerror}") from None


def _checked(place: PhotoLocation, raw: bytes, max_bytes: int) -> bytes:
    data = _unzipped(place, raw, max_bytes) if place.zipped else raw
    if not data and not place.size:
        raise ImageRejected("empty", f"{place.display_name} has zero bytes")
    if len(data) > max_bytes:
        raise ImageRejected("too-large", f"{place.display_name} has more than the allowed {max_bytes:,} bytes")
    if place.size is not None and not place.zipped and len(data) < place.size:
        raise _cut_off(place)
    return data


def _unzipped(place: PhotoLocation, raw: bytes, max_bytes: int) -> bytes:
    """What a zip's member holds, at the most one byte more than is allowed: no bomb gets larger."""
    assert place.zipped
    method, packed, checksum = place.zipped
    name, extra = (int.from_bytes(raw[at : at + 2], "little") for at in (26, 28))
    start = ZIP_HEADER_BYTES + name + extra
    if raw[:4] != b"PK\x03\x04":
        raise ImageRejected("broken", f"{place.display_name} has no header of a zip's member; was the archive changed?")
    body = raw[start : start + packed]
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, max_bytes + 1) if method else body
    except zlib.error as error:
        raise ImageRejected("broken", f"{place.display_name} cannot be unpacked: {error}") from None
    if len(data) <= max_bytes and len(body) < packed:
        raise _cut_off(place)
    if len(data) <= max_bytes and zlib.crc32(data) != checksum:
        raise ImageRejected("broken", f"{place.display_name} is damaged: its checksum is another than the archive says")
    return data


def _cut_off(place: PhotoLocation) -> ImageRejected:
    return ImageRejected("truncated", f"{place.display_name} is cut off; is its archive complete?")
