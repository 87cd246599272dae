"""Members of archives: name, offset and size. Nothing is unpacked, and no link is followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Final

from milvus_fghash.core.image_formats import SUFFIXES
from milvus_fghash.datasets.sources.location import InvalidSource, PhotoLocation
from milvus_fghash.errors import DataError

NESTED: Final = (".tar", ".zip", ".tgz", ".tar.gz")
"""Suffixes of archives."""
LABELS: Final = (".cls", ".json")
"""Suffixes of members that may hold the class of their sample."""
MAX_LABEL_BYTES: Final = 1 << 16
"""Largest member of this kind."""
MAX_NAME_LENGTH: Final = 1024
"""Characters of a member's name."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive: a photo, a label, or another file.

    Attributes:
        name: as in the archive, with slashes between folders.
        start, size, zipped: as in `PhotoLocation`.
        revision: identifies its content, from what the archive says of it.
        reason, message: why it cannot be read, as in `InvalidSource`; "" when it can.
        text: content of a label.
        skipped_as: the kind of another file, for counting; "" to count it by its suffix.
    """

    name: str
    start: int = 0
    size: int = 0
    zipped: tuple[int, int, int] | None = None
    revision: str = ""
    reason: str = ""
    message: str = ""
    text: str | None = None
    skipped_as: str | None = None

    def source(self, archive: str, shown: str, revision: str) -> PhotoLocation | InvalidSource:
        """Its source, given the archive and its revision; without a revision of the archive, the member has none."""
        revision = revision and f"{revision} {self.start} {self.size} {self.revision}"
        name = f"{self.name} in {shown}" if self.name else shown
        if self.reason:
            return InvalidSource(name, revision, self.reason, f"{name} {self.message}")
        return PhotoLocation(archive, name, revision, self.start, self.size, self.zipped)


def kind_of(name: str) -> str:
    """The kind of a member by its name: `photo`, `label`, `nested`, or "" for other files.

    >>> kind_of("birds/0001.JPG"), kind_of("birds/0001.cls"), kind_of("more.tar"), kind_of("birds/notes.txt")
    ('photo', 'label', 'nested', '')
    """
    lower = name.lower()
    if lower.endswith(tuple(SUFFIXES)):
        return "photo"
    if lower.endswith(NESTED):
        return "nested"
    return "label" if lower.endswith(LABELS) else ""


def invalid_member(name: str, reason: str, message: str) -> Member:
    """A member that cannot be read. ``message`` follows its name in the error."""
    return Member(name[:MAX_NAME_LENGTH], reason=reason, message=message)


def nested_archive(name: str) -> Member:
    """A member that is an archive itself."""
    return invalid_member(name, "format", "is an archive inside an archive, which is not read; unpack it")


class BoundedReader:
    """A file from which at most ``max_read`` bytes are read at once: sizes in the headers of archives may be wrong.

    Raises:
        InvalidHeader: when more is requested, or an offset beyond the end.
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
        except Exception as error:  # each file system has its own hierarchy
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
        """The caller closes the file."""


class InvalidHeader(Exception):  # noqa: N818
    """A header of an archive has an impossible size or offset."""


def _unreadable(shown: str, error: Exception) -> DataError:
    why = type(error).__name__
    return DataError(f"{shown} cannot be read in parts, which an archive requires ({why}); download it first")
