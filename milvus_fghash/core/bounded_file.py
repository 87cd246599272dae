"""Reading untrusted files within limits: endless or huge files are rejected before they are read.

A FIFO blocks forever, a link to `/dev/zero` has no end, and a file of many GB exhausts the memory. All errors are
`OSError`, whose `strerror` says what was found and what was expected, as after any failing `open`.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Final

MAX_SETTINGS_BYTES: Final = 1 << 20
"""Limit for files written by hand: settings, recipes, a token."""
MAX_RECORD_BYTES: Final = 1 << 28
"""Limit for files that one run writes for another: markers, records, manifests."""
MAX_LIST_BYTES: Final = (1 << 31) - 1
"""Limit for lists of a whole catalog (ids, groups, rows) and for ONNX files: Protobuf's own limit."""

_STEP: Final = 1 << 20
_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bounded(path: Path, max_bytes: int, *, regular: bool = True, links: bool = True) -> bytes:
    """The content of a file of at most ``most`` bytes.

    Args:
        regular: reject pipes and devices. False for a file named by a person, which may be `/dev/stdin` or a pipe.
        links: follow a symbolic link at ``path``; links among its parent folders are always followed.

    Raises:
        OSError: when it cannot be read, is not a regular file, or is larger.
    """
    with open_regular(path, links=links, max_bytes=max_bytes) if regular else open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size  # 0 for a pipe or a device
        if size > max_bytes:
            raise _too_large(path, max_bytes)
        parts, length = [file.read(size)], size
        while more := file.read(_STEP):
            parts.append(more)
            length += len(more)
            if length > max_bytes:
                raise _too_large(path, max_bytes)
        return b"".join(parts)


def open_regular(path: Path, *, links: bool = True, max_bytes: int | None = None) -> BufferedReader:
    """Open a regular file for reading. It is checked before and after opening, so that no pipe can block.

    Raises:
        OSError: when it cannot be opened, is of another kind, or has more than ``most`` bytes.
    """
    check_regular(path, links=links, max_bytes=max_bytes)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    number = os.open(path, flags if links else flags | getattr(os, "O_NOFOLLOW", 0))
    try:
        _check(os.fstat(number), path, max_bytes)
        return open(number, "rb")
    except BaseException:
        os.close(number)
        raise


def check_regular(path: Path, *, links: bool = True, max_bytes: int | None = None) -> None:
    """Check that a file is regular; for libraries that open a file by its path.

    Raises:
        OSError: when it is gone, is of another kind, or has more than ``most`` bytes.
    """
    _check(os.stat(path, follow_symlinks=links), path, max_bytes)


def _check(status: os.stat_result, path: Path, max_bytes: int | None) -> None:
    mode = status.st_mode
    if not stat.S_ISREG(mode):
        kind = next((name for matches, name in _KINDS if matches(mode)), "a file of unknown kind")
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, f"it is {kind}; expected a regular file", str(path))
    if max_bytes is not None and status.st_size > max_bytes:
        raise _too_large(path, max_bytes)


def _too_large(path: Path, max_bytes: int) -> OSError:
    return OSError(errno.EFBIG, f"it has more than the allowed {max_bytes:,} bytes", str(path))
