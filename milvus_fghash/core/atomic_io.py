"""Atomic writes: a file or folder appears complete under its name or not at all; the old one stays until then.

Kept although libraries such as `atomicwrites` exist: they replace single files, and bundles are folders.
"""

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
    """Write a file under a temporary name next to ``path``, then rename it. Parent folders are created.

    Raises:
        DataError: when it cannot be written; no temporary file remains.
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
    """A temporary path next to ``path`` for a new file or folder, which replaces ``path`` unless the block raises.

    Raises:
        OSError: when it cannot be written; no temporary file remains.
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
    """Sync to the disk, so that the content survives a power failure after the rename."""
    for file in (made, *made.rglob("*")):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())


def _open_to_others(made: Path) -> None:
    """Set the permissions of any new file: some libraries write files that only their owner may read."""
    mask = os.umask(0)
    os.umask(mask)
    for file in (made, *made.rglob("*")):
        if file.is_file():
            file.chmod(0o666 & ~mask)


def _move_into_place(complete: Path, path: Path) -> None:
    """Rename. An old folder is renamed first, as a folder cannot replace one that is not empty.

    A file never replaces a folder: a folder of photos given as the path of a report must not be lost.
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
