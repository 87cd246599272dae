"""A zip -> its members. Python's `zipfile` reads the central directory; its offsets and sizes are checked."""

from __future__ import annotations

import itertools
import stat
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, BinaryIO, Final, cast

from milvus_fghash.core.text_file import ENCODING
from milvus_fghash.datasets.sources.archive_member import (
    MAX_LABEL_BYTES,
    BoundedReader,
    InvalidHeader,
    Member,
    invalid_member,
    kind_of,
    nested_archive,
)
from milvus_fghash.datasets.sources.reader import ZIP_HEADER_BYTES
from milvus_fghash.errors import DataError

MAX_DIRECTORY_BYTES: Final = 1 << 29
"""Largest central directory; some 5 million members."""

_ENCRYPTED = 0x1
_WINDOWS = (0, 10, 11, 14)
"""Systems of DOS, OS/2 and Windows, whose zips may separate folders by backslashes."""
_LONGEST_HEADER = ZIP_HEADER_BYTES + 2 * 0xFFFF


def index(file: BinaryIO, shown: str) -> Iterator[Member]:
    """Photos and labels of a zip, in the order of its directory, and invalid members with their reasons.

    A backslash separates folders in a zip made on Windows, and in one whose names have no slash at all.

    Raises:
        DataError: when it is not a zip, or truncated: the directory is at its end.
    """
    reader = BoundedReader(file, shown, MAX_DIRECTORY_BYTES)
    try:
        archive = zipfile.ZipFile(cast(IO[bytes], reader))
        infos = archive.infolist()
    except (zipfile.BadZipFile, InvalidHeader, ValueError, NotImplementedError, OverflowError, MemoryError) as error:
        raise DataError(f"{shown} cannot be read as a zip: {error}; is it complete?") from None
    starts = sorted({info.header_offset for info in infos} | {archive.start_dir})
    end_of = dict(itertools.pairwise(starts))
    without_slash = not any("/" in info.filename for info in infos)
    for info in infos:
        from_windows = without_slash or info.create_system in _WINDOWS
        name = info.filename.replace("\\", "/") if from_windows else info.filename
        yield from _member(name, info, archive, end_of.get(info.header_offset, 0))


def _member(name: str, info: zipfile.ZipInfo, archive: zipfile.ZipFile, end: int) -> Iterator[Member]:
    kind = kind_of(name)
    if name.endswith("/"):
        return
    room, mode = end - info.header_offset, info.external_attr >> 16
    if not kind:
        yield Member(name, skipped_as="link" if stat.S_ISLNK(mode) else "")
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        yield invalid_member(name, "format", "is a link or a device in the archive; only regular files are read")
    elif kind == "nested":
        yield nested_archive(name)
    elif info.flag_bits & _ENCRYPTED:
        yield invalid_member(name, "format", "is encrypted; create the archive without a password")
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield invalid_member(
            name, "format", "is compressed by another method than deflate; create the archive with deflate"
        )
    elif room < ZIP_HEADER_BYTES + info.compress_size:
        yield invalid_member(name, "broken", "overlaps with the next member of its archive")
    elif kind == "photo":
        packed = (info.compress_type, info.compress_size, info.CRC)
        size = min(room, _LONGEST_HEADER + info.compress_size)
        yield Member(name, info.header_offset, size, packed, revision=f"{info.CRC:08x} {info.file_size}")
    elif info.file_size <= MAX_LABEL_BYTES:
        try:
            yield Member(name, text=archive.read(info)[:MAX_LABEL_BYTES].decode(ENCODING, errors="replace"))
        except (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
            yield invalid_member(
                name, "broken", f"cannot be decompressed, so the class of its photo is unknown: {error}"
            )
