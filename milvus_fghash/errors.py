"""Every error this project raises on purpose.

* FghashError             one line on stderr, exit code 1, no traceback
  - ConfigError           a recipe, an option or an environment variable is wrong
  - MissingExtra          a command needs packages that are not installed
  - DataError             a listing, a folder or a label is wrong
    - ImageRejected        one image cannot or may not be decoded; `reason` says why in a word
    - TooManyDeleted      more rows would be deleted than allowed; none was
  - CodeError             codes of the wrong length, type or padding
  - TrainingError         training cannot go on (a checkpoint that does not fit)
  - NotFinite             a loss or an output is not a finite number
  - BundleError           an ONNX bundle is missing a part, was changed, or does not match
  - StoreError            Milvus rejected, cannot be reached, or the collection does not fit the bundle
    - StoreBusy           Milvus is gone or overloaded for now; the same call may go through later
    - RowsTooLarge        single rows are larger than a message that Milvus takes; all others are in
  - Inconsistent              a collection does not hold what it should
  - Stopped               someone asked a run to stop; what is done is kept; exit code 130
  - TooManyRejected        the work is done, but more files were rejected than allowed; exit code 3

A message says what was found, what was expected, and what to do next. It names no option of the command line; where a
setting helps, the error carries its name, and the command line adds the option.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from milvus_fghash.core.masking import masked

T = TypeVar("T")


class FghashError(Exception):
    """Base class of all errors raised on purpose. What grants access is masked in its text, wherever that goes.

    Attributes:
        setting: name of the setting that helps, or names with blanks between, as the library calls them, such as
            `rows_per_write`; "" where none does.
    """

    exit_code = 1

    def __init__(self, *texts: str, setting: str = "") -> None:
        super().__init__(*map(masked, texts))
        self.setting = setting


class ConfigError(FghashError):
    """A recipe, an option or an environment variable is wrong."""


class MissingExtra(FghashError):  # noqa: N818 - reads as what it is
    """A command needs packages of an optional part that is not installed."""


class DataError(FghashError):
    """A listing, a folder or a label is wrong."""


class ImageRejected(DataError):  # noqa: N818
    """One image cannot or may not be decoded.

    Attributes:
        reason: one word for reports: `missing`, `empty`, `too-large`, `format`, `extra`, `pointer`,
            `truncated`, `bomb`, `broken`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TooManyDeleted(DataError):  # noqa: N818
    """More rows would be deleted than allowed; none was."""


class CodeError(FghashError):
    """Codes of the wrong length, type or padding."""


class TrainingError(FghashError):
    """Training cannot go on."""


class NotFinite(FghashError):  # noqa: N818
    """A loss or an output is not a finite number."""


class BundleError(FghashError):
    """An ONNX bundle is missing a part, was changed, or does not match."""


class StoreError(FghashError):
    """Milvus rejected, cannot be reached, or the collection does not fit the bundle."""


class StoreBusy(StoreError):  # noqa: N818
    """Milvus cannot be reached or is overloaded just now; the same call may go through later."""


class RowsTooLarge(StoreError):  # noqa: N818
    """Single rows are larger than a message that Milvus takes; all others of the call are in.

    Attributes:
        ids: of these rows.
    """

    def __init__(self, message: str, ids: Iterable[str]) -> None:
        super().__init__(message)
        self.ids = frozenset(ids)


class Inconsistent(FghashError):  # noqa: N818
    """A collection does not hold what it should."""


class Stopped(FghashError):  # noqa: N818
    """A run was asked to stop; what it had begun is finished, and the same call goes on from there."""

    exit_code = 130  # 128 + SIGINT, as shells report it


class TooManyRejected(FghashError):  # noqa: N818
    """The work is done, but more files were rejected than allowed."""

    exit_code = 3


def suggestion(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name, with the blank behind it; nothing where no known one is like it.

    >>> suggestion("epohcs", ["epochs", "rounds"])
    'Did you mean epochs? '
    """
    known = sorted(known)
    containing = [one for one in known if len(name) > 3 and name in one]
    near = difflib.get_close_matches(name, known, n=2) or containing[:2]
    return f"Did you mean {' or '.join(near)}? " if near else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """The second half of an error about an unknown name: a guess and the known names.

    >>> nearest("epohcs", ["epochs", "rounds"])
    'Did you mean epochs? Known: epochs, rounds.'
    >>> nearest("epochs", ["epochs_per_round", "rounds"])  # a part of a known name is a guess too
    'Did you mean epochs_per_round? Known: epochs_per_round, rounds.'
    """
    known = sorted(known)
    return f"{suggestion(name, known)}Known: {', '.join(known)}."


@contextmanager
def optional_extra(extra: str) -> Iterator[None]:
    """Wrap imports that need ``pip install 'milvus-fghash[extra]'``; our own missing modules stay bugs."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or "a package"
        if missing.partition(".")[0] == "milvus_fghash":
            raise
        raise MissingExtra(
            f"this needs {missing}, which is not installed. Install it with: pip install 'milvus-fghash[{extra}]'"
        ) from error


def one_line(error: object) -> str:
    r"""The text of an error, or of what a server says, without its line breaks and without what grants access.

    >>> one_line(ValueError("no such\n  file"))
    'no such file'
    """
    return masked(" ".join(str(error).split()))


def check_not_string(values: Sequence[T], what: str) -> Sequence[T]:
    """The values as they are, unless they are one text, which Python would read letter by letter.

    >>> check_not_string(["a17"], "ids")
    ['a17']

    Raises:
        ConfigError: for a text.
    """
    if isinstance(values, str | bytes):
        raise ConfigError(f"{what} must be a sequence, got the single text {values!r}; put it into a list")
    return values
