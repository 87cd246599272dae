"""Which of the files below a folder, in an archive or in a bucket are photos of the data set."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from milvus_fghash.datasets.read_report import LeftOut
from milvus_fghash.errors import ConfigError, check_not_string

ClassLevel = Literal["auto", "top", "leaf"] | int
"""Which of the folders above a photo is its class, see `classes`."""
SYSTEM_NAMES: Final = (
    "@eaDir", "@tmp", "@Recycle", "@Recently-Snapshot", "@__thumb", "#recycle", "#snapshot",  # NAS
    "__MACOSX", "Temporary Items", "Network Trash Folder",  # macOS
    "$RECYCLE.BIN", "RECYCLER", "RECYCLED", "System Volume Information",  # Windows
    "lost+found", "*.lrdata",  # Linux; previews of Lightroom
)  # fmt: skip
"""Names of files and folders that systems and programs make; what lies there is never a photo of the data set."""
HIDDEN: Final = "hidden"
"""What `LeftOut` calls a name with a leading dot."""
MAX_PATH_LENGTH: Final = 4096
"""Letters of a path that is looked into; a longer one, which only an archive can hold, is rejected later."""


_LEVELS: Final[dict[str, ClassLevel]] = {"auto": "auto", "top": "top", "leaf": "leaf"}


@dataclass(frozen=True)
class Selection:
    """What is read below a place, and how.

    Attributes:
        class_level: which of the folders above a photo is its class: "top", "leaf" (the innermost), a number from 1
            (the top), or "auto".
        exclude: globs, beside those of `SYSTEM_NAMES`, of what is left out. One without a slash is for the name of a
            file or folder anywhere; one with a slash for a path below the place, with ``**`` for any folders. Capitals
            do not matter. What lies in a folder that is left out is left out too.
        follow_links: whether links to folders are followed. Circles are cut.

    Raises:
        ConfigError: for a level or a glob that cannot be.
    """

    class_level: ClassLevel = "auto"
    exclude: tuple[str, ...] = ()
    follow_links: bool = False

    def __post_init__(self) -> None:
        check_not_string(self.exclude, "exclude")
        level = self.class_level
        if level not in _LEVELS and (not isinstance(level, int) or isinstance(level, bool) or level < 1):
            raise ConfigError(f"the class level {level!r} must be auto, top, leaf, or a number from 1")
        for glob in self.exclude:
            if not (names := _parts(glob)) or ".." in names:
                raise ConfigError(f"{glob!r} leaves nothing out; expected a glob such as @eaDir or */previews")


DEFAULT_SELECTION: Final = Selection()


def class_level(text: str) -> ClassLevel:
    """A level as it is written; what cannot be one is rejected by `Selection`.

    >>> class_level("leaf"), class_level("2")
    ('leaf', 2)
    """
    if text.isdecimal():
        return int(text)
    if text in _LEVELS:
        return _LEVELS[text]
    raise ConfigError(f"the class level {text!r} must be auto, top, leaf, or a number from 1")


@dataclass
class PhotoFilter:
    """Parts photos from what is left out, and counts that."""

    selection: Selection = field(default_factory=Selection)
    system_names: bool = True
    """Whether hidden names and those of `SYSTEM_NAMES` are left out too."""
    left_out: LeftOut = field(default_factory=LeftOut)
    _folders: dict[str, bool] = field(default_factory=dict)
    """Folder -> whether what lies in it is taken."""

    def __post_init__(self) -> None:
        parts = [
            (glob, _parts(glob.lower()))
            for glob in (*(SYSTEM_NAMES if self.system_names else ()), *self.selection.exclude)
        ]
        self._of_names = [(glob, names[0]) for glob, names in parts if len(names) == 1 and glob[0] != "/"]
        self._of_paths = [(glob, names) for glob, names in parts if len(names) > 1 or glob[0] == "/"]
        self._any_name = re.compile("|".join(fnmatch.translate(pattern) for _, pattern in self._of_names))

    def accepts(self, path: str, *, is_photo: bool) -> bool:
        """Whether a file is taken; if not, it is counted by what leaves it out, or by its suffix.

        Args:
            path: POSIX, relative to the place that is read; ``.`` and empty parts of it do not matter.
            is_photo: whether it would be one by its name. Other files count only where no rule leaves them out.
        """
        if len(path) > MAX_PATH_LENGTH:
            return is_photo
        folder, _, name = path.rpartition("/")
        if folder and not self._is_open(folder):
            return False
        if why := self._why(name, path):
            if is_photo:
                self.left_out.add(why, path)
            return False
        if not is_photo:
            self.left_out.add_file(path)
        return is_photo

    def enters(self, folder: str) -> bool:
        """Whether a folder is entered, when the one it lies in is; if not, it is counted."""
        if why := self._why(folder.rpartition("/")[2], folder):
            self.left_out.add(why, folder)
        self._folders[folder] = not why
        return not why

    def _is_open(self, folder: str) -> bool:
        """`enters` of a folder and of all above it, each asked once."""
        if folder not in self._folders:
            above = itertools.accumulate(folder.split("/"), "{}/{}".format)
            self._folders[folder] = all(
                self._folders[one] if one in self._folders else self.enters(one) for one in above
            )
        return self._folders[folder]

    def _why(self, name: str, path: str) -> str:
        """What leaves out a file or folder by its own name or path; "" when it is taken."""
        if name in ("", ".", ".."):  # of what leads out, others tell
            return ""
        if self.system_names and name.startswith("."):
            return HIDDEN
        if self._of_names and self._any_name.match(name := name.lower()):
            return next((glob for glob, pattern in self._of_names if fnmatch.fnmatchcase(name, pattern)), "")
        if self._of_paths:
            names = _parts(path.lower())
            return next((glob for glob, globs in self._of_paths if _fits(names, globs)), "")
        return ""


def _parts(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _fits(names: Sequence[str], globs: Sequence[str]) -> bool:
    if not globs:
        return not names
    if globs[0] == "**":
        return any(_fits(names[skipped:], globs[1:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], globs[0]) and _fits(names[1:], globs[1:])
