"""Masking of credentials in all output: messages, logs, reports, journals, records.

All text passes `masked`: that of each `FghashError` when it is created, that of errors of libraries (`one_line`), and
each line on stderr. Known secrets are masked everywhere, others where a pattern such as a URL reveals them.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MASK: Final = "***"
MIN_PASSWORD_LENGTH: Final = 4
"""A shorter password is not masked on its own: ordinary words would be masked too."""
MIN_SETTING_LENGTH: Final = 8
"""The same for settings and parameters, which may not be secrets."""
MIN_USER_LENGTH: Final = 16
"""The same for a user name, which for AWS is a key."""
PUBLIC: Final = frozenset({"Milvus"})
"""The default password of Milvus; masking it would mask the name of the program."""
ENVIRONMENT: Final = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN")

_KEYED: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "file", "local", "unix"})
"""Protocols whose URLs have no query: a question mark is part of the name."""
_IN_URL: Final = r"[^\s'\"<>]"
_USER: Final = re.compile(
    # An unencoded password may contain a slash; then no port follows the colon.
    rf"(?<=://)(?:[^\s/?#@'\"<>\[]*:(?!\d{{0,5}}(?:[/?#\s'\")\]>,;]|$)){_IN_URL}*?@)?(?:[^\s/?#'\"<>]*@)?"
)
_QUERY: Final = re.compile(
    # Except for a digest that replaces a query (`location.name_of`).
    rf"(?i)(\b(?!(?:{'|'.join(sorted(_KEYED))})://)[a-z][a-z0-9+.-]*://[^\s'\"<>?#]*)[?#](?![0-9a-f]{{16}}(?![\w=&%.+-])){_IN_URL}*[^\s'\"<>).,:;\]}}]"
)
_NAMED: Final = re.compile(
    r"(?i)(\b(?:proxy-)?authorization['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic)\s+)?+"
    r"|\b(?:x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig|password|passwd|secret|secret[_-]?access"
    r"[_-]?key|(?:access[_-]?|session[_-]?)?token|api[_-]?key)['\"]?(?:=|:\s*['\"])['\"]?)([^\s'\"<>,;&)}\]*]+)"
)
_SECRET_SETTING: Final = re.compile(
    r"(?i)secret|token|password|passwd|authorization|api.?key|credential|sas|sig|account_key"
)


class Secrets:
    """Secrets of this process. Thread-safe."""

    def __init__(self) -> None:
        self._texts: tuple[str, ...] = ()

    def add(self, *texts: str) -> None:
        """Mask these texts from now on."""
        if new := set(texts).difference(self._texts, {""}):
            self._texts = tuple(sorted({*self._texts, *new}, key=len, reverse=True))

    def add_token(self, token: str) -> None:
        """Add a token, the password in ``user:password``, and both as gRPC and HTTP encode them."""
        self.add(*_with_password(token))

    def add_url(self, url: str) -> None:
        """Add the credentials of a URL: user, password, and values of its query."""
        self.add(*secrets_in(url))

    def add_settings(self, settings: Mapping[str, object]) -> None:
        """Add the values of settings whose names suggest a secret, also in nested settings, as those of fsspec."""
        self.add(*_of_settings(settings))

    def clear(self) -> None:
        """Remove all, before another command."""
        self._texts = ()

    def mask(self, text: str) -> str:
        """The text with each secret replaced by three asterisks."""
        return _replaced(text, self._texts)


KNOWN_SECRETS: Final = Secrets()
"""The secrets of this process."""


def masked(text: str, *urls: str) -> str:
    """The text without credentials.

    Args:
        urls: URLs that the text may be about; their credentials are masked too.

    >>> masked("cannot read http://me:secret@host/a.jpg?sig=0f3a: denied")
    'cannot read http://***@host/a.jpg?***: denied'
    >>> masked('Invalid bucket name "KEY:SECRET@birds"', "s3://KEY:SECRET@birds/a.jpg")
    'Invalid bucket name "***@birds"'
    """
    own = {secret for url in urls for secret in secrets_in(url)} | set(_of_environment())
    text = _replaced(KNOWN_SECRETS.mask(text), sorted(own, key=len, reverse=True))
    if "://" in text:
        text = _QUERY.sub(rf"\1?{MASK}", _USER.sub(lambda match: match[0] and f"{MASK}@", text))
    return _NAMED.sub(rf"\1{MASK}", text)


def without_secrets(url: str) -> str:
    """A URL without user, password, query and fragment; keys of object stores are kept.

    >>> without_secrets("https://me:secret@host/a%20b.jpg?X-Amz-Signature=0f3a")
    'https://host/a%20b.jpg'
    """
    url = _USER.sub("", url, count=1)
    return re.split("[?#]", url)[0] if _has_query(url) else url


def secrets_in(url: str) -> set[str]:
    """The credentials in a URL: as written, decoded, and encoded.

    >>> sorted(secrets_in("http://me:s3cret%21@host/a?id=long-signature"))
    ['bWU6czNjcmV0IQ==', 'bWU6czNjcmV0JTIx', 'long-signature', 'me:s3cret!', 'me:s3cret%21', 's3cret!', 's3cret%21']
    """
    start, found, _ = url.partition("://")
    if not found:
        return set()
    user = (_USER.search(url, len(start)) or [""])[0].rstrip("@")
    secrets = _with_password(user) | _with_password(unquote(user)) if ":" in user else set()
    secrets |= {name for name in [user.partition(":")[0]] if len(name) >= MIN_USER_LENGTH}
    if _has_query(url):
        address, _, fragment = url.partition("#")
        for pair in [*re.split("[&;]", address.partition("?")[2]), fragment]:
            name, _, value = pair.partition("=") if "=" in pair else ("", "", pair)
            shortest = MIN_PASSWORD_LENGTH if _SECRET_SETTING.search(name) else MIN_SETTING_LENGTH
            if len(value) >= shortest:
                decoded = unquote_plus(value)
                secrets |= {value, decoded, quote(decoded, safe=""), quote_plus(decoded, safe="")}
    return secrets


def _with_password(token: str) -> set[str]:
    _, _, password = token.partition(":")
    texts = {token, base64.b64encode(token.encode(errors="replace")).decode()} if token else set()
    if len(password) >= MIN_PASSWORD_LENGTH and password not in PUBLIC:
        texts.add(password)
    return texts


def _of_environment() -> Iterator[str]:
    """Credentials of object stores in environment variables."""
    yield from (os.environ[name] for name in ENVIRONMENT if len(os.environ.get(name, "")) >= MIN_SETTING_LENGTH)
    for name, value in os.environ.items():
        if name.startswith("FSSPEC_"):
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
            yield from _of_settings({name: value})


def _of_settings(settings: Mapping[str, object]) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _of_settings(value)
        elif isinstance(value, str) and len(value) >= MIN_SETTING_LENGTH and _SECRET_SETTING.search(name):
            yield value
            yield value.rpartition(" ")[2]  # of a header, after Bearer


def _replaced(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _has_query(url: str) -> bool:
    return url.partition("://")[0].lower() not in _KEYED
