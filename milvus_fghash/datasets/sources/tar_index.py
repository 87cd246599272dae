"""A tar -> its members. Python's `tarfile` reads the headers; nothing they say is believed unseen."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, Final, cast

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
from milvus_fghash.errors import DataError

MAX_HEADER_BYTES: Final = 1 << 20
"""Bytes of one header, long names and all."""
MAX_PADDING_BYTES: Final = 1 << 20
"""Bytes that may follow the end of an archive."""

_BLOCK = 512
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def index(file: BinaryIO, shown: str) -> Iterator[Member]:
    """Photos and labels of a tar, in its order, and what cannot be had, each with its reason.

    Of a tar that is cut off or damaged, the members before that, and one that is called after the archive and says so.

    Raises:
        DataError: when it is no tar, or a compressed one.
    """
    reader = BoundedReader(file, shown, MAX_HEADER_BYTES)
    start = reader.read(_BLOCK)
    for magic, method in _COMPRESSED.items():
        if start.startswith(magic):
            raise DataError(
                f"{shown} is compressed by {method}, so single photos cannot be read out of it; decompress it first "
                "(photos are compressed already)"
            )
    reader.seek(0)
    try:
        archive: Any = tarfile.TarFile(fileobj=cast(IO[bytes], reader), encoding="utf-8")
    except (tarfile.TarError, InvalidHeader, ValueError, RecursionError):
        raise DataError(f"{shown} is no tar that can be read: its first header is damaged") from None
    last = -1
    while True:
        try:
            info = archive.next()
        except (tarfile.TarError, InvalidHeader, ValueError, RecursionError, OverflowError):
            yield barred("", "truncated", "is cut off or damaged; what comes behind is not known")
            return
        archive.members = []  # it would keep them all
        if info is None:
            break
        if info.offset <= last or info.size < 0:
            yield barred("", "broken", "has a header that leads backwards; what comes behind is not known")
            return
        last = info.offset
        yield from _member(info, reader)
    reader.seek(min(archive.offset, reader.size))
    end = reader.read(_BLOCK)
    if end != bytes(_BLOCK):
        yield barred("", "truncated", "is cut off or damaged; what comes behind is not known")
    elif reader.size - archive.offset > MAX_PADDING_BYTES:
        yield barred(
            "", "truncated", f"goes on for {reader.size - archive.offset:,} bytes behind its end; they are not read"
        )


def _member(info: tarfile.TarInfo, file: BoundedReader) -> Iterator[Member]:
    name, kind = info.name, kind_of(info.name)
    if info.isdir():
        return
    if not kind:
        yield Member(name, passed_over="link" if info.issym() or info.islnk() else "")
    elif not info.isreg() or info.sparse is not None:
        what = "a link" if info.islnk() or info.issym() else "no plain file"
        yield barred(name, "format", f"is {what} in the archive, and only plain files are read")
    elif kind == "nested":
        yield nested(name)
    elif kind == "photo":
        yield Member(name, info.offset_data, info.size, revision=f"{info.mtime:.0f}")
    elif info.size <= MAX_LABEL_BYTES:
        file.seek(info.offset_data)
        yield Member(name, text=file.read(info.size).decode(ENCODING, errors="replace"))
