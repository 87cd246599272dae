"""A result appears whole under its name, or not at all; an old one stays until then."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from milvus_fghash.errors import DataError


def write_atomic(path: Path, raw: bytes) -> Path:
    """Write a file under another name beside ``path``, then rename it. Folders are made as needed.

    Raises:
        DataError: when the disk rejects; nothing is left behind.
    """
    path = Path(path)
    try:
        with atomic_path(path) as unfinished:
            unfinished.write_bytes(raw)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from error
    return path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` for a file or a folder to be made; when all went well it takes ``path``'s place.

    Raises:
        OSError: when the disk rejects; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield unfinished
        _flush(unfinished)
        _open_to_others(unfinished)
        _move_into_place(unfinished, path)
    finally:
        _remove(unfinished)


def _flush(made: Path) -> None:
    """To the disk, so that a power cut after the rename finds the content too."""
    for file in (made, *made.rglob("*")):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())


def _open_to_others(made: Path) -> None:
    """Permissions as of any new file: some libraries write files that only their owner may read."""
    mask = os.umask(0)
    os.umask(mask)
    for file in (made, *made.rglob("*")):
        if file.is_file():
            file.chmod(0o666 & ~mask)


def _move_into_place(complete: Path, path: Path) -> None:
    """Rename; a folder cannot replace one that is not empty, so an old folder steps aside first.

    A file never takes a folder's place: whoever names a folder of photos for a report would lose them.
    """
    if path.is_dir() and not complete.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not path.is_dir():
        os.replace(complete, path)
        return
    aside = path.with_name(f".{path.name}.old-{uuid.uuid4().hex}")
    os.replace(path, aside)
    try:
        os.replace(complete, path)
    except OSError:
        os.replace(aside, path)
        raise
    shutil.rmtree(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
