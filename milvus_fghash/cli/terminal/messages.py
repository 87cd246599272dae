"""Messages on stderr: lines of text, or one JSON object per line, without secrets and control characters.

Every object has `time` (UTC, ISO 8601), `level`, `event` and `message`. Further keys depend on the event:
`message`: none; `photos` (summary of the dataset): `photos`, `classes`, `splits`, `class_from`, `left_out`; `progress`:
`what`, `done`, `total`, and `seconds_left` when it is known; `stage`: `what`, `stage`; `error` (the command failed):
`kind`, `exit_code`; `log` and `warning`: `logger`; `bug`: `traceback`; `stderr` (written by a library): none.
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

from milvus_fghash.cli.terminal.stderr_capture import capture_stderr
from milvus_fghash.core.masking import masked
from milvus_fghash.core.untrusted_text import printable, printable_lines

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

_JSON_LOG: Final = logging.getLogger("milvus_fghash.cli.messages")
"""For JSON only: messages do not depend on ``--log-level``."""
_JSON_LOG.setLevel(logging.DEBUG)


class MaskedFormatter(logging.Formatter):
    """Masks secrets in the formatted record, including tracebacks."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(masked(super().format(record)))


class JsonFormatter(MaskedFormatter):
    """One JSON object, on one line, per record."""

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
    """Writes to stderr; to a real file, each line by one system call, so that a signal handler may write too."""

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
    """Send log records, warnings and tracebacks to stderr; with the style `json`, also the output of libraries."""
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
        sys.stderr.fileno()  # only as a program: a host process has hooks of its own
        sys.excepthook = _notify_bug
        threading.excepthook = lambda bug: _notify_bug(bug.exc_type, bug.exc_value, bug.exc_traceback)


def settle() -> None:
    """Wait up to a few seconds until the output of libraries is written, so that errors come last."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _JsonHandler):
            handler.settle()


def is_json() -> bool:
    """Whether messages are JSON; valid after `write_messages`."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


def notify(line: str, level: int = logging.INFO, event: str = "message", **facts: object) -> None:
    """Print a message on stderr; as JSON, with its event and facts. Thread-safe."""
    if is_json():
        _JSON_LOG.log(level, "%s", line, extra={"facts": {"event": event, **facts}})
    else:
        click.echo(printable(masked(line)), err=True)


def notify_now(line: str) -> None:
    """`notify` for signal handlers: unbuffered, because the stream may be in the middle of a line."""
    if is_json():
        notify(line)
    else:
        os.write(2, f"{line}\n".encode())


def _notify_bug(kind: type[BaseException], error: BaseException | None, trace: Any) -> None:
    """Print a traceback as Python does, masked; as JSON, one object."""
    if kind is SystemExit:  # raised in a thread, where Python ignores it
        return
    if is_json():
        facts = {"event": "bug", "kind": kind.__name__}
        _JSON_LOG.critical("%s", error, exc_info=(kind, error or kind(), trace), extra={"facts": facts})
    else:
        sys.stderr.write(printable_lines(masked("".join(traceback.format_exception(kind, error, trace)))))
