"""A zip -> its members. Python's `zipfile` reads the directory; nothing it says is believed unseen."""

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
    barred,
    kind_of,
    nested,
)
from milvus_fghash.datasets.sources.reader import ZIP_HEADER_BYTES
from milvus_fghash.errors import DataError

MAX_DIRECTORY_BYTES: Final = 1 << 29
"""Bytes of a directory; some 5 million members."""

_ENCRYPTED = 0x1
_WINDOWS = (0, 10, 11, 14)
"""Systems whose file names have no backslash: where they made the zip, it stands between folders."""
_LONGEST_HEADER = ZIP_HEADER_BYTES + 2 * 0xFFFF


def index(file: BinaryIO, shown: str) -> Iterator[Member]:
    """Photos and labels of a zip, in the order of its directory, and what cannot be had, each with its reason.

    A backslash stands between folders in a zip that was made on Windows, and in one whose names have no slash at all.

    Raises:
        DataError: when it is no zip, or cut off: its directory stands at its end.
    """
    reader = BoundedReader(file, shown, MAX_DIRECTORY_BYTES)
    try:
        archive = zipfile.ZipFile(cast(IO[bytes], reader))
        infos = archive.infolist()
    except (zipfile.BadZipFile, InvalidHeader, ValueError, NotImplementedError, OverflowError, MemoryError) as error:
        raise DataError(f"{shown} is no zip that can be read: {error}; is it complete?") from None
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
        yield Member(name, passed_over="link" if stat.S_ISLNK(mode) else "")
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        yield barred(name, "format", "is a link or a device in the archive, and only plain files are read")
    elif kind == "nested":
        yield nested(name)
    elif info.flag_bits & _ENCRYPTED:
        yield barred(name, "format", "is encrypted; make the archive again without a password")
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield barred(name, "format", "is compressed by another method than deflate; make the archive again")
    elif room < ZIP_HEADER_BYTES + info.compress_size:
        yield barred(name, "broken", "overlaps with the next member of its archive")
    elif kind == "photo":
        packed = (info.compress_type, info.compress_size, info.CRC)
        size = min(room, _LONGEST_HEADER + info.compress_size)
        yield Member(name, info.header_offset, size, packed, revision=f"{info.CRC:08x} {info.file_size}")
    elif info.file_size <= MAX_LABEL_BYTES:
        try:
            yield Member(name, text=archive.read(info)[:MAX_LABEL_BYTES].decode(ENCODING, errors="replace"))
        except (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
            yield barred(name, "broken", f"cannot be unpacked, so the class of its photo is not known: {error}")
