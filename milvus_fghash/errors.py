"""The exceptions of this project.

* FghashError             base class; the command line shows one line, without a traceback, and exits with 1
  - ConfigError           a recipe, a setting or an environment variable is invalid
  - MissingExtra          packages of an optional extra are not installed
  - DataError             a dataset, a folder or a label is invalid
    - ImageRejected       one photo cannot be decoded or is not accepted; `reason` is a keyword
    - TooManyDeleted      more rows would be deleted than allowed; none was deleted
  - CodeError             codes of the wrong length, type or padding
  - TrainingError         training cannot continue (a checkpoint that does not fit)
  - NotFinite             a loss or an output is not a finite number
  - BundleError           a part of a bundle is missing, changed, or does not match
  - StoreError            Milvus cannot be reached, rejects a request, or the collection does not fit the bundle
    - StoreBusy           Milvus is unavailable or overloaded; the call may succeed later
    - RowsTooLarge        single rows exceed the message size of Milvus; all others were written
  - Inconsistent          a collection and its records disagree
  - Stopped               a run was stopped on request; finished work is kept; exit code 130
  - TooManyRejected       the run is complete, but more photos were rejected than allowed; exit code 3

A message says what was found, what was expected, and what to do next. It names no command-line option: where a setting
helps, the error carries the name of the setting, and the command line adds the option.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from milvus_fghash.core.masking import masked

T = TypeVar("T")


class FghashError(Exception):
    """Base class of the exceptions of this project. Credentials are masked in the message.

    Attributes:
        setting: name of the parameter that helps, such as ``"rows_per_write"``, or several separated by spaces; "" when
            none does.
        exit_code: exit code of the command line.

    Examples:
        >>> try:
        ...     raise ConfigError("a code of 4 bits is not supported; choose 8 to 1024 bits", setting="bits")
        ... except FghashError as error:
        ...     print(error, "|", error.setting)
        a code of 4 bits is not supported; choose 8 to 1024 bits | bits
    """

    exit_code = 1

    def __init__(self, *texts: str, setting: str = "") -> None:
        super().__init__(*map(masked, texts))
        self.setting = setting


class ConfigError(FghashError):
    """A recipe, a setting or an environment variable is invalid."""


class MissingExtra(FghashError):  # noqa: N818 - reads as what it is
    """Packages of an optional extra are not installed; the message has the ``pip install`` command."""


class DataError(FghashError):
    """A dataset, a folder, a file or a label is invalid."""


class ImageRejected(DataError):  # noqa: N818
    """One photo cannot be decoded, or is not accepted.

    Attributes:
        reason: keyword for reports: `missing`, `empty`, `too-large` (bytes), `bomb` (pixels), `format`, `extra` (the
            format needs an extra that is not installed), `pointer` (of Git LFS), `truncated`, `broken`, `name` (an
            invalid path); `timeout` and `unreachable`, which may be temporary.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TooManyDeleted(DataError):  # noqa: N818
    """More rows would be deleted than allowed; none was deleted."""


class CodeError(FghashError):
    """Codes of the wrong length, type or padding."""


class TrainingError(FghashError):
    """Training cannot continue, for example because a checkpoint does not fit the recipe."""


class NotFinite(FghashError):  # noqa: N818
    """A loss or an output is not a finite number."""


class BundleError(FghashError):
    """A part of an ONNX bundle is missing, was changed, or does not match."""


class StoreError(FghashError):
    """Milvus cannot be reached, rejects a request, or the collection does not fit the bundle."""


class StoreBusy(StoreError):  # noqa: N818
    """Milvus is unavailable or overloaded; the same call may succeed later."""


class RowsTooLarge(StoreError):  # noqa: N818
    """Single rows exceed the message size of Milvus; all other rows of the call were written.

    Attributes:
        ids: ids of these rows.
    """

    def __init__(self, message: str, ids: Iterable[str]) -> None:
        super().__init__(message)
        self.ids = frozenset(ids)


class Inconsistent(FghashError):  # noqa: N818
    """A collection does not hold what the journal or the photos say it should."""


class Stopped(FghashError):  # noqa: N818
    """A run was stopped on request. Finished work is kept; the same call resumes."""

    exit_code = 130  # 128 + SIGINT, as shells report it


class TooManyRejected(FghashError):  # noqa: N818
    """The run is complete, but more photos were rejected than allowed."""

    exit_code = 3


def suggestion(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name, with a trailing space; "" when no known name is similar.

    >>> suggestion("epohcs", ["epochs", "rounds"])
    'Did you mean epochs? '
    """
    known = sorted(known)
    containing = [one for one in known if len(name) > 3 and name in one]
    near = difflib.get_close_matches(name, known, n=2) or containing[:2]
    return f"Did you mean {' or '.join(near)}? " if near else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """The second half of an error about an unknown name: a suggestion and the known names.

    >>> nearest("epohcs", ["epochs", "rounds"])
    'Did you mean epochs? Known: epochs, rounds.'
    >>> nearest("epochs", ["epochs_per_round", "rounds"])  # part of a known name
    'Did you mean epochs_per_round? Known: epochs_per_round, rounds.'
    """
    known = sorted(known)
    return f"{suggestion(name, known)}Known: {', '.join(known)}."


@contextmanager
def optional_extra(extra: str) -> Iterator[None]:
    """Report a missing package as `MissingExtra`; a missing module of this project stays an error."""
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
    r"""The text of an error or of a server's response in one line, without credentials.

    >>> one_line(ValueError("no such\n  file"))
    'no such file'
    """
    return masked(" ".join(str(error).split()))


def check_not_string(values: Sequence[T], what: str) -> Sequence[T]:
    """Return the values, unless they are a single string, which would be iterated by character.

    >>> check_not_string(["a17"], "ids")
    ['a17']

    Raises:
        ConfigError: for a single string.
    """
    if isinstance(values, str | bytes):
        raise ConfigError(f"{what} must be a sequence, got the single string {values!r}; put it into a list")
    return values
