"""A tar -> its members. Python's `tarfile` reads the headers; their offsets and sizes are checked."""

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
    invalid_member,
    kind_of,
    nested_archive,
)
from milvus_fghash.errors import DataError

MAX_HEADER_BYTES: Final = 1 << 20
"""Largest header of a member, with its long names."""
MAX_PADDING_BYTES: Final = 1 << 20
"""Largest padding after the end of an archive."""

_BLOCK = 512
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def index(file: BinaryIO, shown: str) -> Iterator[Member]:
    """Photos and labels of a tar, in file order, and invalid members with their reasons.

    A truncated or damaged tar yields the members before the fault, and then a member without a name that reports it.

    Raises:
        DataError: when it is not a tar, or a compressed one.
    """
    reader = BoundedReader(file, shown, MAX_HEADER_BYTES)
    start = reader.read(_BLOCK)
    for magic, method in _COMPRESSED.items():
        if start.startswith(magic):
            raise DataError(
                f"{shown} is compressed by {method}, so single photos cannot be read from it; decompress it first "
                "(photos are compressed already)"
            )
    reader.seek(0)
    try:
        archive: Any = tarfile.TarFile(fileobj=cast(IO[bytes], reader), encoding="utf-8")
    except (tarfile.TarError, InvalidHeader, ValueError, RecursionError):
        raise DataError(f"{shown} cannot be read as a tar: its first header is damaged") from None
    last = -1
    while True:
        try:
            info = archive.next()
        except (tarfile.TarError, InvalidHeader, ValueError, RecursionError, OverflowError):
            yield invalid_member("", "truncated", "is truncated or damaged; the members after it are unknown")
            return
        archive.members = []  # TarFile would keep them all
        if info is None:
            break
        if info.offset <= last or info.size < 0:
            yield invalid_member("", "broken", "has a header that points backwards; the members after it are unknown")
            return
        last = info.offset
        yield from _member(info, reader)
    reader.seek(min(archive.offset, reader.size))
    end = reader.read(_BLOCK)
    if end != bytes(_BLOCK):
        yield invalid_member("", "truncated", "is truncated or damaged; the members after it are unknown")
    elif reader.size - archive.offset > MAX_PADDING_BYTES:
        yield invalid_member(
            "", "truncated", f"has {reader.size - archive.offset:,} bytes after its end, which are not read"
        )


def _member(info: tarfile.TarInfo, file: BoundedReader) -> Iterator[Member]:
    name, kind = info.name, kind_of(info.name)
    if info.isdir():
        return
    if not kind:
        yield Member(name, skipped_as="link" if info.issym() or info.islnk() else "")
    elif not info.isreg() or info.sparse is not None:
        what = "a link" if info.islnk() or info.issym() else "not a regular file"
        yield invalid_member(name, "format", f"is {what} in the archive; only regular files are read")
    elif kind == "nested":
        yield nested_archive(name)
    elif kind == "photo":
        yield Member(name, info.offset_data, info.size, revision=f"{info.mtime:.0f}")
    elif info.size <= MAX_LABEL_BYTES:
        file.seek(info.offset_data)
        yield Member(name, text=file.read(info.size).decode(ENCODING, errors="replace"))
