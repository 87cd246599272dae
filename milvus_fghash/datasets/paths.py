"""Paths from lists: they must be relative, stay below the root, and name existing files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from milvus_fghash.errors import DataError

_DRIVE = re.compile(r"[A-Za-z]:")


def relative_path(path: str, where: str) -> str:
    r"""The normalised POSIX path, if it stays below the folder it is relative to.

    >>> relative_path("./birds//wren.jpg", "photos.csv, line 2")
    'birds/wren.jpg'

    Raises:
        DataError: for an empty or absolute path, a drive letter, a ``..``, a NUL, or a name that is not UTF-8 (Milvus
            stores text as UTF-8). ``where`` is the position of the path, for the message.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: the name {path!a} is not UTF-8; rename the file") from None
    names = [name for name in path.split("/") if name not in ("", ".")]
    on_windows = path.replace("\\", "/").split("/")
    if not names or not on_windows[0] or ".." in on_windows or "\0" in path or _DRIVE.match(path):
        raise DataError(f"{where}: the path {path!r} must be relative and stay below the data set's folder")
    return "/".join(names)


def parent_folders(paths: Iterable[str]) -> set[str]:
    """All parent folders of POSIX paths; "" is the root.

    >>> sorted(parent_folders(["birds/jay/0.png", "a.png"]))
    ['', 'birds', 'birds/jay']
    """
    found: set[str] = set()
    for path in paths:
        while path and (path := path.rpartition("/")[0]) not in found:
            found.add(path)
    return found


class FolderBoundary:
    """Whether files lie below a folder once all links are resolved."""

    def __init__(self, root: Path) -> None:
        self.root = os.path.realpath(root)
        self._folders: dict[str, bool] = {}

    def __contains__(self, path: str) -> bool:
        """For a POSIX path relative to the folder; each folder in between is resolved once."""
        parent = path.rpartition("/")[0]
        if parent not in self._folders:
            self._folders[parent] = self._holds(parent)
        return self._folders[parent] and (not os.path.islink(f"{self.root}/{path}") or self._holds(path))

    def _holds(self, path: str) -> bool:
        try:
            real = os.path.realpath(f"{self.root}/{path}")
        except ValueError:  # an impossible name is not a link
            return True
        return os.path.commonpath([self.root, real]) == self.root


def check_files_exist(root: Path, paths: Iterable[tuple[str, str]], hint: str) -> None:
    """Check that all photos of a list exist, reading each folder once.

    Args:
        root: folder the paths are relative to.
        paths: (path, position in the list) pairs.
        hint: the next step, at the end of the message.

    Raises:
        DataError: for the first missing one.
    """
    for path, where in missing_files(root, paths):
        raise DataError(f"{where}: there is no file {root / path}; {hint}")


def missing_files(root: Path, paths: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Those of the (path, position in the list) pairs whose file does not exist, reading each folder once."""
    names: dict[str, set[str]] = {}
    for path, where in paths:
        parent, _, name = path.rpartition("/")
        if parent not in names:
            try:
                names[parent] = set(os.listdir(root / parent))
            except OSError:
                names[parent] = set()
        if name not in names[parent]:
            yield path, where
