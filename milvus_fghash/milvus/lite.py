"""Milvus Lite: which one is installed, what it needs to open a file, and what is the matter when it does not."""

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

from milvus_fghash.core.packages import installed
from milvus_fghash.errors import MissingExtra, StoreError, optional_extra

LITE_FIX: Final = "pip install 'milvus-lite>=2.4.10,<3' 'setuptools<82'"
LITE_LOG_LEVEL: Final = "GLOG_minloglevel"
LITE_NAME: Final = re.compile(r"[a-zA-Z0-9.\-_]{1,36}")  # milvus-lite 2.5.1 takes no other file names
MIN_FREE_BYTES: Final = 1 << 20
"""Bytes. A disk with less is as good as full to a database."""
_opened_files: Final = set[Path]()
"""Files that this process has opened."""


def lite_path(uri: str) -> Path:
    """The file that a URI without :// means.

    Raises:
        StoreError: when it begins with ~ and there is no home folder.
    """
    try:
        return Path(uri).expanduser()
    except RuntimeError:
        raise StoreError(f"cannot open {uri}: there is no home folder; give the whole path of the file") from None


def check_file(uri: str) -> Path:
    """The file, if Milvus Lite can make or open it where it lies.

    Raises:
        StoreError: otherwise.
    """
    path = lite_path(uri)
    if not path.parent.is_dir():
        raise StoreError(f"cannot open {path}: there is no folder {path.parent}; make it first")
    if not LITE_NAME.fullmatch(path.name):
        raise StoreError(
            f"cannot open {path}: Milvus Lite wants a file name of at most 36 letters, digits, dots, dashes and "
            "underscores"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise _not_writable(path)
    return path


def _not_writable(path: Path) -> StoreError:
    return StoreError(
        f"cannot open {path}: it, or its folder, cannot be written, and Milvus Lite writes there even for a search; "
        "copy the file to where you may write, or take the right to"
    )


def check_installed() -> None:
    """Tell a usable Milvus Lite from what pip may have installed instead.

    Raises:
        MissingExtra: when there is none, or it lacks a package.
        StoreError: when it is one without binary vectors.
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
            warnings.simplefilter("ignore")  # pkg_resources announces its own end
            import milvus_lite  # noqa: F401
    except MissingExtra as error:
        if getattr(error.__cause__, "name", None) != "pkg_resources":
            raise
        raise MissingExtra(
            f"Milvus Lite {version} needs pkg_resources, which setuptools 82 and later lack. Repair it with: {LITE_FIX}"
        ) from error


def no_binary_vectors(version: str) -> str:
    """What is said of Milvus Lite 3."""
    return f"Milvus Lite {version} has no binary vectors; only Milvus Lite 2 has. Repair it with: {LITE_FIX}"


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """For the block that makes the client of a file.

    Raises:
        StoreError: when the file does not open; says why.
    """
    try:
        tempfile.gettempdir()  # where its socket is made
        home = _home()
    except OSError as error:
        raise StoreError(f"cannot open {path}, for Milvus Lite needs one: {error.strerror}") from error
    with _log_of_lite(path), _one_start_at_a_time(home), _environment(home):
        try:
            yield
        except OSError as error:
            raise _not_writable(path) from error
    _opened_files.add(path)


def forget_process(path: Path) -> None:
    """Let the next client of a file start another process: milvus-lite keeps one in mind that has ended."""
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(str(path))


def likely_cause() -> str:
    """What is the matter most likely, when Milvus Lite fails at something without a word."""
    full = (_full_disk(path) for path in sorted(_opened_files))
    return next(filter(None, full), "Milvus Lite does not say why; is there room on the disk of its file?")


def _full_disk(path: Path) -> str:
    """That the disk of a file is full; nothing where it is not."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return ""
    return f"the disk of {path} is full ({free // 1024:,} KB are free); make room" if free < MIN_FREE_BYTES else ""


def _home() -> Path:
    """A home folder in which Milvus Lite can make its cache: it dies without one, or fails at every search.

    The cache itself is not made here, nor looked at: Milvus Lites make and remove it, and one that another process
    starts at this moment fails over a folder that it did not see a moment ago (milvus-lite#305).
    """
    with suppress(OSError, RuntimeError):
        home = Path.home()
        home.mkdir(parents=True, exist_ok=True)
        cache = home / ".cache"
        with tempfile.TemporaryFile(dir=cache if cache.exists() else home):  # asked for rights, /proc has all for root
            return home
    return _temporary_home()


@functools.cache
def _temporary_home() -> Path:
    home = tempfile.mkdtemp(prefix="milvus-lite-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    return Path(home)


@contextmanager
def _one_start_at_a_time(home: Path) -> Iterator[None]:
    """Milvus Lites that start at the same moment all make a folder below the home folder, and some fail over it."""
    import fcntl  # not on Windows, where there is no Milvus Lite

    folder = os.open(home, os.O_RDONLY)  # milvus-lite#305
    try:
        with suppress(OSError):  # a file system that has no locks
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@contextmanager
def _environment(home: Path) -> Iterator[None]:
    """Of the process of Milvus Lite, which would tell stderr where in its code an error was; it raises it as well."""
    ours = {"HOME": str(home), LITE_LOG_LEVEL: os.environ.get(LITE_LOG_LEVEL) or "3"}  # fatal ones alone
    given = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in given.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _log_of_lite(path: Path) -> Iterator[None]:
    """Milvus Lite logs why a file does not open and raises only that it does not; put the two together."""
    said: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if "milvus_lite" not in record.pathname:
            return True
        said.append(record.getMessage())
        return False

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    except StoreError as error:
        if any("opened by another program" in line for line in said):
            raise StoreError(
                f"cannot open {path}: another process has it open, and Milvus Lite serves one at a time; "
                "stop that process, or use a Milvus server"
            ) from error
        if said:
            why = _full_disk(path) or f"{said[-1]}; is it a Milvus Lite 2 file, and not damaged?"
            raise StoreError(f"cannot open {path}: {why}") from error
        raise
    finally:
        root.removeFilter(keep)
