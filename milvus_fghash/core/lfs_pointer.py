"""Git LFS pointers: a clone without ``git lfs pull`` has a few lines of text in place of each large file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from milvus_fghash.errors import FghashError

_START: Final = b"version https://git-lfs.github.com/spec/"
MAX_POINTER_BYTES: Final = 1024
"""Largest pointer by the specification of Git LFS."""


def is_pointer(data: bytes) -> bool:
    r"""Whether the bytes of a file are a pointer.

    >>> is_pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n"), is_pointer(b"\xff\xd8")
    (True, False)
    """
    return len(data) < MAX_POINTER_BYTES and data.startswith(_START)


def pointer_message(name: str) -> str:
    """The error message for a file that is a pointer."""
    return f"{name} is a Git LFS pointer, not the file itself; run git lfs pull in its repository"


def reject_pointer(path: Path, kind: type[FghashError]) -> None:
    """Reject a file that is a pointer. An unreadable file passes; the caller reports it.

    Raises:
        FghashError: of this kind.
    """
    try:
        if not path.is_file():  # reading would consume the content of a pipe
            return
        with open(path, "rb") as file:
            start = file.read(MAX_POINTER_BYTES)
    except (OSError, ValueError):
        return
    if is_pointer(start):
        raise kind(pointer_message(str(path)))
