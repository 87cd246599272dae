"""What goes to stderr: lines for people, or one JSON object a line. Tokens and control characters never do.

An object has `time` (UTC, ISO 8601), `level`, `event`, `message`, and what belongs to the event: `message` (a line that
people would read), `progress` (`what`, `done`, `total`), `error` (the end of a run that failed: `kind`, `exit_code`),
`log` and `warning` (`logger`), `bug` (`traceback`), `stderr` (what something else wrote there).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import click

from milvus_fghash.cli.stray_lines import catch_stray_lines
from milvus_fghash.outside_text import printable, printable_lines

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
SHORTEST_PART = 4
"""A password of fewer characters is not masked by itself: that would blot out ordinary words."""

_TOLD: Final = logging.getLogger("milvus_fghash.cli.told")
"""For JSON alone. What people are told does not depend on the level asked for."""
_TOLD.setLevel(logging.DEBUG)


class Secrets:
    """What must never be shown, whoever writes the message."""

    def __init__(self) -> None:
        self._texts: set[str] = set()

    def add_token(self, token: str) -> None:
        """Hide a token, and the password in it when it reads `user:password`."""
        self._add(token, token.partition(":")[2])

    def add_uri(self, uri: str) -> None:
        """Hide the password of `http://user:password@host`; of a URI that cannot be, `Target` shows nothing."""
        with contextlib.suppress(ValueError):
            self._add(urlsplit(uri).password or "")

    def mask(self, text: str) -> str:
        """The text with each secret replaced by three stars."""
        for secret in sorted(self._texts, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _add(self, whole: str, part: str = "") -> None:
        self._texts |= {text for text in (whole, part if len(part) >= SHORTEST_PART else "") if text}


class MaskedFormatter(logging.Formatter):
    """Masks the finished line, tracebacks included."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self.secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(self.secrets.mask(super().format(record)))


class JsonFormatter(MaskedFormatter):
    """One object, and so one line, for each record."""

    def format(self, record: logging.LogRecord) -> str:
        known = {"event": "warning" if record.name == "py.warnings" else "log", "logger": record.name}
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage().strip(),
            **getattr(record, "facts", known),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        masked = {
            name: self.secrets.mask(value) if isinstance(value, str) else value for name, value in document.items()
        }
        return json.dumps(masked, default=str)


class _JsonHandler(logging.StreamHandler[Any]):
    """Writes to stderr; where that is a real file, each line at once and whole, so that a signal may write, too."""

    def __init__(self) -> None:
        super().__init__()
        self.settle: Callable[[], None] = lambda: None
        try:
            self._file: int | None = self.stream.fileno()
        except OSError:
            self._file = None
        else:
            self._file, self.settle = catch_stray_lines(self._file, lambda line: tell(line, logging.WARNING, "stderr"))
            sys.excepthook = _tell_bug

    def emit(self, record: logging.LogRecord) -> None:
        if self._file is None:
            super().emit(record)
        else:
            line = f"{self.format(record)}\n".encode()
            while line:
                line = line[os.write(self._file, line) :]


def write_messages(secrets: Secrets, style: str) -> None:
    """Send log records and Python warnings to stderr; in the style `json`, whatever else is written there, too."""
    if style == "json":
        handler: logging.Handler = _JsonHandler()
        handler.setFormatter(JsonFormatter(secrets))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(MaskedFormatter(secrets))
    logging.basicConfig(handlers=[handler], force=True)
    logging.captureWarnings(True)


def settle() -> None:
    """Wait, for a second at the most, until what libraries wrote to stderr so far stands there: an error comes last."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _JsonHandler):
            handler.settle()


def is_json() -> bool:
    """Whether stderr is for machines."""
    return isinstance(_formatter(), JsonFormatter)


def tell(line: str, level: int = logging.INFO, event: str = "message", **facts: object) -> None:
    """A line for people, on stderr; as JSON with its event and facts. Any thread may."""
    formatter = _formatter()
    if isinstance(formatter, JsonFormatter):
        _TOLD.log(level, "%s", line, extra={"facts": {"event": event, **facts}})
    else:
        click.echo(printable(formatter.secrets.mask(line) if formatter else line), err=True)


def tell_at_once(line: str) -> None:
    """`tell` for a signal handler: what buffers may be in the middle of a line, and takes no second writer."""
    if is_json():
        tell(line)
    else:
        os.write(2, f"{line}\n".encode())


def _formatter() -> MaskedFormatter | None:
    """The one in use; None before `write_messages`."""
    found = (handler.formatter for handler in logging.getLogger().handlers)
    return next((one for one in found if isinstance(one, MaskedFormatter)), None)


def _tell_bug(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """What would be a traceback of many lines."""
    facts = {"event": "bug", "kind": kind.__name__}
    _TOLD.critical("%s", error, exc_info=(kind, error, traceback), extra={"facts": facts})
