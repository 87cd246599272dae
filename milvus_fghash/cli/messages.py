"""Log messages on stderr, with tokens taken out."""

from __future__ import annotations

import contextlib
import logging
from urllib.parse import urlsplit

LEVELS = ("debug", "info", "warning", "error")
SHORTEST_PART = 4
"""A password of fewer characters is not masked by itself: that would blot out ordinary words."""


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
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return self._secrets.mask(super().format(record))


def write_messages(level: str, secrets: Secrets) -> None:
    """Send log records and Python warnings to stderr, from ``level`` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(MaskedFormatter(secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
