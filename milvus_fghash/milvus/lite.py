"""Milvus Lite: check the installed version, prepare to open a file, and explain why one does not open."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from milvus_fghash.core.environment import installed
from milvus_fghash.errors import MissingExtra, StoreError, optional_extra

LITE_FIX: Final = "pip install 'milvus-lite>=2.4.10,<3' 'setuptools<82'"
LITE_LOG_LEVEL: Final = "GLOG_minloglevel"
LITE_NAME: Final = re.compile(r"[a-zA-Z0-9.\-_]{1,36}")  # milvus-lite 2.5.1 takes no other file names
MIN_FREE_BYTES: Final = 1 << 20
"""A disk with less free space counts as full."""
_opened_files: Final = set[Path]()
"""Milvus Lite files that this process has opened."""


def lite_path(uri: str) -> Path:
    """The file of a URI without a scheme.

    Raises:
        StoreError: if it starts with ~ and there is no home folder.
    """
    try:
        return Path(uri).expanduser()
    except RuntimeError:
        raise StoreError(f"cannot open {uri}: there is no home folder; give the absolute path of the file") from None


def check_file(uri: str) -> Path:
    """The file, if Milvus Lite can create or open it there.

    Raises:
        StoreError: otherwise.
    """
    path = lite_path(uri)
    if not path.parent.is_dir():
        raise StoreError(f"cannot open {path}: there is no folder {path.parent}; create it first")
    if not LITE_NAME.fullmatch(path.name):
        raise StoreError(
            f"cannot open {path}: Milvus Lite requires a file name of at most 36 letters, digits, dots, dashes and "
            "underscores"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise _not_writable(path)
    return path


def _not_writable(path: Path) -> StoreError:
    return StoreError(
        f"cannot open {path}: no permission to write to the file or its folder, as Milvus Lite does even for a "
        "search; copy the file to a folder where you have write permission"
    )


def check_installed() -> None:
    """Check that a usable version of Milvus Lite is installed.

    Raises:
        MissingExtra: if it is not installed, or lacks a package.
        StoreError: if this version has no binary vectors.
    """
    version = installed("milvus-lite")
    if version is None:
        raise MissingExtra(
            "a .db file needs Milvus Lite, which is not installed. Install it with: pip install 'milvus-fghash[lite]' "
            "(Linux and macOS), or give the URI of a Milvus server"
        )
    if int(version.split(".")[0]) >= 3:
        raise StoreError(no_binary_vectors(version))
    try:
        with optional_extra("lite"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pkg_resources warns of its deprecation
            import milvus_lite  # noqa: F401
    except MissingExtra as error:
        if getattr(error.__cause__, "name", None) != "pkg_resources":
            raise
        raise MissingExtra(
            f"Milvus Lite {version} needs pkg_resources, which setuptools 82 and later lack. Fix it with: {LITE_FIX}"
        ) from error


def no_binary_vectors(version: str) -> str:
    """The message about Milvus Lite 3."""
    return f"Milvus Lite {version} has no binary vectors; only Milvus Lite 2 has. Fix it with: {LITE_FIX}"


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """For the block that opens the client of a file.

    Raises:
        StoreError: if the file cannot be opened; gives the reason.
    """
    try:
        tempfile.gettempdir()  # Milvus Lite creates its socket there
        home = _home()
    except OSError as error:
        raise StoreError(f"cannot open {path}: Milvus Lite needs a temporary folder: {error.strerror}") from error
    with _explained_by_log(path), _one_start_at_a_time(home), _environment(home):
        try:
            yield
        except OSError as error:
            raise _not_writable(path) from error
    _opened_files.add(path)


def forget_process(path: Path) -> None:
    """Make the next client of a file start a new process: milvus-lite does not notice that one has ended."""
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(str(path))


def likely_cause() -> str:
    """The likely cause when Milvus Lite fails without giving a reason."""
    full = (_full_disk(path) for path in sorted(_opened_files))
    return next(filter(None, full), "Milvus Lite gives no reason; is there free space on the disk of its file?")


def _full_disk(path: Path) -> str:
    """A message if the disk of a file is full; otherwise ""."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return ""
    return f"the disk of {path} is full ({free // 1024:,} KB free); free some space" if free < MIN_FREE_BYTES else ""


def _home() -> Path:
    """A home folder in which Milvus Lite can create its cache: without one it crashes, or fails at every search.

    The cache folder itself is left to Milvus Lite: a process that is starting at the same moment fails if the folder
    appears after it has checked for it (milvus-lite#305).
    """
    with suppress(OSError, RuntimeError):
        home = Path.home()
        home.mkdir(parents=True, exist_ok=True)
        cache = home / ".cache"
        with tempfile.TemporaryFile(
            dir=cache if cache.exists() else home
        ):  # checking permissions would not do: root has them all, even in /proc
            return home
    return _temporary_home()


@functools.cache
def _temporary_home() -> Path:
    home = tempfile.mkdtemp(prefix="milvus-lite-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return Path(home)


@contextmanager
def _one_start_at_a_time(home: Path) -> Iterator[None]:
    """Milvus Lite processes that start at the same moment all create the same folder, and some fail over it."""
    import fcntl  # not on Windows, where there is no Milvus Lite

    folder = os.open(home, os.O_RDONLY)  # milvus-lite#305
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@contextmanager
def _environment(home: Path) -> Iterator[None]:
    """Environment of the process of Milvus Lite, whose log of errors on stderr is silenced: it raises them, too."""
    changes = {"HOME": str(home), LITE_LOG_LEVEL: os.environ.get(LITE_LOG_LEVEL) or "3"}  # fatal errors only
    previous = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _explained_by_log(path: Path) -> Iterator[None]:
    """Add the reason to the error when a file does not open: Milvus Lite only logs it."""
    logged: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if "milvus_lite" not in record.pathname:
            return True
        logged.append(record.getMessage())
        return False

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    except StoreError as error:
        if any("opened by another program" in line for line in logged):
            raise StoreError(
                f"cannot open {path}: another process has it open, and Milvus Lite serves one process at a time; "
                "stop the other one, or use a Milvus server"
            ) from error
        if logged:
            why = _full_disk(path) or f"{logged[-1]}; is it an undamaged Milvus Lite 2 file?"
            raise StoreError(f"cannot open {path}: {why}") from error
        raise
    finally:
        root.removeFilter(keep)
