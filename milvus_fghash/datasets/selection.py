"""Which files of a folder, an archive or a bucket are photos of the data set."""

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
"""Which folder above a photo is its class, see `classes.read_classes`."""
SYSTEM_NAMES: Final = (
    "@eaDir", "@tmp", "@Recycle", "@Recently-Snapshot", "@__thumb", "#recycle", "#snapshot",  # NAS
    "__MACOSX", "Temporary Items", "Network Trash Folder",  # macOS
    "$RECYCLE.BIN", "RECYCLER", "RECYCLED", "System Volume Information",  # Windows
    "lost+found", "*.lrdata",  # Linux; previews of Lightroom
)  # fmt: skip
"""Names of files and folders that operating systems and programs create; nothing there is a photo of the data set."""
HIDDEN: Final = "hidden"
"""Key in `LeftOut.counts` for names with a leading dot."""
MAX_PATH_LENGTH: Final = 4096
"""Characters of a path that is filtered; a longer one, possible in archives only, is rejected later."""


_LEVELS: Final[dict[str, ClassLevel]] = {"auto": "auto", "top": "top", "leaf": "leaf"}


@dataclass(frozen=True)
class Selection:
    """Which files of a folder, an archive or a bucket are read, and which folders are the classes.

    Attributes:
        class_level: which folder above a photo is its class: "top", "leaf" (the innermost), a number from 1 (the top),
            or "auto": the innermost where all photos lie equally deep, else the first level at which folders differ.
        exclude: globs of files and folders to leave out, in addition to those of operating systems and hidden names.
            A glob without a slash matches names at any depth; one with a slash matches paths below the root, with
            ``**`` for any folders. Case does not matter. Everything in an excluded folder is left out.
        follow_links: whether links to folders are followed. A link that leads back to a parent folder is not.

    Raises:
        ConfigError: for an invalid level or glob.

    Examples:
        >>> Selection(class_level="leaf", exclude=("*_thumb.*", "train/old")).class_level
        'leaf'
    """

    class_level: ClassLevel = "auto"
    exclude: tuple[str, ...] = ()
    follow_links: bool = False

    def __post_init__(self) -> None:
        check_not_string(self.exclude, "exclude")
        level = self.class_level
        if level not in _LEVELS and (not isinstance(level, int) or isinstance(level, bool) or level < 1):
            raise ConfigError(
                f"the class level {level!r} must be auto, top, leaf, or a number from 1", setting="class_level"
            )
        for glob in self.exclude:
            if not (names := _parts(glob)) or ".." in names:
                raise ConfigError(
                    f"{glob!r} matches nothing; expected a glob such as @eaDir or */previews", setting="exclude"
                )


DEFAULT_SELECTION: Final = Selection()


def class_level(text: str) -> ClassLevel:
    """A class level from text.

    >>> class_level("leaf"), class_level("2")
    ('leaf', 2)
    """
    if text.isdecimal():
        return int(text)
    if text in _LEVELS:
        return _LEVELS[text]
    raise ConfigError(f"the class level {text!r} must be auto, top, leaf, or a number from 1", setting="class_level")


@dataclass
class PhotoFilter:
    """Accepts photos, and counts what it leaves out."""

    selection: Selection = field(default_factory=Selection)
    system_names: bool = True
    """Whether hidden names and those of `SYSTEM_NAMES` are left out."""
    left_out: LeftOut = field(default_factory=LeftOut)
    _folders: dict[str, bool] = field(default_factory=dict)
    """Folder -> whether files in it are accepted."""

    def __post_init__(self) -> None:
        parts = [
            (glob, _parts(glob.lower()))
            for glob in (*(SYSTEM_NAMES if self.system_names else ()), *self.selection.exclude)
        ]
        self._of_names = [(glob, names[0]) for glob, names in parts if len(names) == 1 and glob[0] != "/"]
        self._of_paths = [(glob, names) for glob, names in parts if len(names) > 1 or glob[0] == "/"]
        self._any_name = re.compile("|".join(fnmatch.translate(pattern) for _, pattern in self._of_names))

    def accepts(self, path: str, *, is_photo: bool) -> bool:
        """Whether a file is accepted; if not, it is counted under the rule that excludes it, or its suffix.

        Args:
            path: POSIX path relative to the root; ``.`` and empty components do not matter.
            is_photo: whether its name is that of a photo. Other files are counted unless a rule excludes them.
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
        """Whether a folder in an accepted folder is accepted; if not, it is counted."""
        if why := self._why(folder.rpartition("/")[2], folder):
            self.left_out.add(why, folder)
        self._folders[folder] = not why
        return not why

    def _is_open(self, folder: str) -> bool:
        """`enters` for a folder and all above it, each evaluated once."""
        if folder not in self._folders:
            above = itertools.accumulate(folder.split("/"), "{}/{}".format)
            self._folders[folder] = all(
                self._folders[one] if one in self._folders else self.enters(one) for one in above
            )
        return self._folders[folder]

    def _why(self, name: str, path: str) -> str:
        """The rule that excludes a file or folder; "" when none does."""
        if name in ("", ".", ".."):  # paths that leave the root are rejected elsewhere
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
