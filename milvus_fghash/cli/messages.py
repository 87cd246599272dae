"""What goes to stderr: lines for people, or one JSON object a line. Secrets and control characters never do.

An object has `time` (UTC, ISO 8601), `level`, `event`, `message`, and what belongs to the event: `message` (a line that
people would read), `photos` (`photos`, `classes`, `splits`, `class_from`, `left_out`: what a command found before it
begins), `progress` (`what`, `done`, `total`, and `seconds_left` once that can be told), `stage` (`what`, `stage`),
`error` (the end of a run that failed: `kind`, `exit_code`), `log` and `warning` (`logger`), `bug` (`traceback`),
`stderr` (what something else wrote there).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import click

from milvus_fghash.cli.stderr_capture import capture_stderr
from milvus_fghash.core.masking import masked
from milvus_fghash.core.untrusted_text import printable, printable_lines

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

_NOTIFIED: Final = logging.getLogger("milvus_fghash.cli.told")
"""For JSON alone. What people are told does not depend on the level asked for."""
_NOTIFIED.setLevel(logging.DEBUG)


class MaskedFormatter(logging.Formatter):
    """Masks the finished line, tracebacks included."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(masked(super().format(record)))


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
        shown = {name: masked(value) if isinstance(value, str) else value for name, value in document.items()}
        return json.dumps(shown, default=lambda value: masked(str(value)))


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
            self._file, self.settle = capture_stderr(self._file, lambda line: notify(line, logging.WARNING, "stderr"))

    def emit(self, record: logging.LogRecord) -> None:
        if self._file is None:
            super().emit(record)
        else:
            line = f"{self.format(record)}\n".encode()
            while line:
                line = line[os.write(self._file, line) :]


def write_messages(style: str) -> None:
    """Send log records, warnings and tracebacks to stderr; in the style `json`, whatever else is written there, too."""
    handler: logging.Handler
    formatter: MaskedFormatter
    if style == "json":
        handler, formatter = _JsonHandler(), JsonFormatter()
    else:
        handler, formatter = logging.StreamHandler(), MaskedFormatter()
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], force=True)
    logging.captureWarnings(True)
    with contextlib.suppress(OSError):
        sys.stderr.fileno()  # of a program; where it is run inside of another, that one has hooks of its own
        sys.excepthook = _notify_bug
        threading.excepthook = lambda bug: _notify_bug(bug.exc_type, bug.exc_value, bug.exc_traceback)


def settle() -> None:
    """Wait, for some seconds at most, until what libraries wrote to stderr so far stands there: errors come last."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _JsonHandler):
            handler.settle()


def is_json() -> bool:
    """Whether stderr is for machines; not before `write_messages`."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


def notify(line: str, level: int = logging.INFO, event: str = "message", **facts: object) -> None:
    """A line for people, on stderr; as JSON with its event and facts. Any thread may."""
    if is_json():
        _NOTIFIED.log(level, "%s", line, extra={"facts": {"event": event, **facts}})
    else:
        click.echo(printable(masked(line)), err=True)


def notify_now(line: str) -> None:
    """`tell` for a signal handler: what buffers may be in the middle of a line, and takes no second writer."""
    if is_json():
        notify(line)
    else:
        os.write(2, f"{line}\n".encode())


def _notify_bug(kind: type[BaseException], error: BaseException | None, trace: Any) -> None:
    """A traceback as Python shows it, masked; as JSON, one object."""
    if kind is SystemExit:  # of a thread, where Python passes over it
        return
    if is_json():
        facts = {"event": "bug", "kind": kind.__name__}
        _NOTIFIED.critical("%s", error, exc_info=(kind, error or kind(), trace), extra={"facts": facts})
    else:
        sys.stderr.write(printable_lines(masked("".join(traceback.format_exception(kind, error, trace)))))
