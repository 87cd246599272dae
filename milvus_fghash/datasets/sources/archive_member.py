"""What lies in an archive: each member once, with its place and size. Nothing is unpacked, and no link is followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Final

from milvus_fghash.core.image_formats import SUFFIXES
from milvus_fghash.datasets.sources.location import InvalidSource, PhotoLocation
from milvus_fghash.errors import DataError

NESTED: Final = (".tar", ".zip", ".tgz", ".tar.gz")
"""Endings of archives."""
LABELS: Final = (".cls", ".json")
"""Endings of the members that may say the class of their sample."""
MAX_LABEL_BYTES: Final = 1 << 16
"""Bytes of such a one."""
MAX_NAME_LENGTH: Final = 1024
"""Letters of a member's name."""


@dataclass(frozen=True, slots=True)
class Member:
    """A photo in an archive, what says its class, or what is neither.

    Attributes:
        name: as it stands there, with slashes between folders.
        start, size, zipped: as in `PhotoLocation`.
        version: what tells it from another content at the same place, as far as the archive says.
        reason, message: why it cannot be had, as in `InvalidSource`; "" when it can.
        text: content of what says the class.
        passed_over: what it is called when it is counted, where it is neither; a suffix is not said here.
    """

    name: str
    start: int = 0
    size: int = 0
    zipped: tuple[int, int, int] | None = None
    revision: str = ""
    reason: str = ""
    message: str = ""
    text: str | None = None
    passed_over: str | None = None

    def place(self, archive: str, shown: str, version: str) -> PhotoLocation | InvalidSource:
        """Where it is: ``version`` is the archive's, and what is not known of the archive is not known of it."""
        version = version and f"{version} {self.start} {self.size} {self.revision}"
        called = f"{self.name} in {shown}" if self.name else shown
        if self.reason:
            return InvalidSource(called, version, self.reason, f"{called} {self.message}")
        return PhotoLocation(archive, called, version, self.start, self.size, self.zipped)


def kind_of(name: str) -> str:
    """What a member is by its name: `photo`, `label`, `nested`, or "" for what is left alone.

    >>> kind_of("birds/0001.JPG"), kind_of("birds/0001.cls"), kind_of("more.tar"), kind_of("birds/notes.txt")
    ('photo', 'label', 'nested', '')
    """
    lower = name.lower()
    if lower.endswith(tuple(SUFFIXES)):
        return "photo"
    if lower.endswith(NESTED):
        return "nested"
    return "label" if lower.endswith(LABELS) else ""


def barred(name: str, reason: str, message: str) -> Member:
    """A member that cannot be had. ``message`` goes on after its name."""
    return Member(name[:MAX_NAME_LENGTH], reason=reason, message=message)


def nested(name: str) -> Member:
    """An archive as a member."""
    return barred(name, "format", "is an archive inside an archive, which is not opened; unpack it")


class BoundedReader:
    """A file of which no more is read at once than ``most`` bytes: what archives say of sizes may be a lie.

    Raises:
        InvalidHeader: when more is asked for, or a place behind the end.
        DataError: when the file cannot be read.
    """

    def __init__(self, file: BinaryIO, shown: str, max_read: int) -> None:
        self._file, self._shown, self._max_read = file, shown, max_read
        self.size = self.seek(0, 2)
        self.seek(0)

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.size - self.tell())
        size = left if size < 0 else size
        if size > self._max_read:
            raise InvalidHeader(f"{self._shown} has a header of {size:,} bytes; expected at most {self._max_read:,}")
        try:
            return self._file.read(min(size, left))
        except Exception as error:  # of file systems, which have trees of their own
            raise _unreadable(self._shown, error) from None

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset > self.size:
            raise InvalidHeader(f"{self._shown} has a header that points to byte {offset:,} of {self.size:,}")
        try:
            return self._file.seek(offset, whence)
        except Exception as error:
            raise _unreadable(self._shown, error) from None

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """The file belongs to who opened it."""


class InvalidHeader(Exception):  # noqa: N818 - reads as what it is
    """A header asks for more than any archive needs."""


def _unreadable(shown: str, error: Exception) -> DataError:
    why = type(error).__name__
    return DataError(f"{shown} cannot be read in parts, as an archive has to be ({why}); download it first")
