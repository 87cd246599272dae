"""The pages of a web server that list what lies in its folders, told from all else that a server answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from milvus_fghash.core.masking import without_secrets
from milvus_fghash.datasets.sources.fetch import Page, pages
from milvus_fghash.datasets.sources.location import MAX_URL_BYTES
from milvus_fghash.errors import ImageRejected

_KINDS: Final = frozenset({"text/html", "application/xhtml+xml", ""})
_LISTING: Final = re.compile(r"(?i)index of|directory listing|listing directory|parent directory|files within")
"""What web servers write on the page of a folder, be it empty: nginx, Apache, lighttpd, IIS, Python, Express."""
_NOT_WRITTEN: Final = frozenset(
    {"search", "hidden", "submit", "button", "reset", "image", "checkbox", "radio", "file", "range", "color"}
)
"""Types of inputs that a form asks for no text with; a listing may have one for searching."""
_UP: Final = frozenset({"..", "../", "./.."})
_PORTS: Final = {"http": 80, "https": 443}


def with_slash(url: str) -> str:
    """The URL of a folder's page: web servers give it only where a slash ends the path.

    >>> with_slash("https://host/birds?key=1")
    'https://host/birds/?key=1'
    """
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/") + "/", fragment="").geturl()


def listings(urls: Sequence[str]) -> list[dict[str, str] | ImageRejected]:
    """What lies below each of the folders, by the page behind its URL: relative path, of a folder with a slash -> URL.

    A page is the listing of its folder when it comes from where it was asked for and links what lies below, or says
    that it lists a folder. One with a form to write in must say so, or link the folder above. Of any other, such as a
    login page or an empty one, the reason is given.

    Raises:
        MissingExtra, ConfigError, DataError: as `fetching.filesystem`.
    """
    answers = zip(pages(urls), urls, strict=True)
    return [page if isinstance(page, ImageRejected) else _listing(page, url) for page, url in answers]


def _listing(page: Page, asked: str) -> dict[str, str] | ImageRejected:
    shown = without_secrets(asked)
    if not _is_same(urlsplit(page.url), urlsplit(asked)):
        return _no_listing(f"{shown} leads elsewhere, to {without_secrets(page.url)}")
    if page.kind not in _KINDS:
        return _no_listing(f"{shown} gives {page.kind}; expected a page of links to what lies below it")
    parser = _Anchors()
    parser.feed(page.text)
    parser.close()
    if parser.asks_for_password:
        return _no_listing(f"{shown} gives a page that asks for a password")
    below = dict(filter(None, (_below(link, asked) for link in parser.links)))
    says_so = bool(_UP.intersection(parser.links) or _LISTING.search("".join(parser.texts)))
    if parser.asks_for_text and not says_so:
        return _no_listing(f"{shown} gives a page with a form to write in, which is no listing of a folder")
    if not below and not says_so:
        what = "a page without links to what lies below it" if page.text.strip() else "an empty page"
        return _no_listing(f"{shown} gives {what}, which is no listing of a folder")
    return below


def _below(link: str, asked: str) -> tuple[str, str] | None:
    """Path and URL of what a link on the page ``asked`` leads to, if that lies below it."""
    try:
        base, parts = urlsplit(asked), urlsplit(urljoin(asked, link.strip()))
        if parts.scheme not in _PORTS or _host(parts) != _host(base) or parts.query:
            return None
    except ValueError:
        return None
    start, whole = unquote(base.path), unquote(parts.path)
    url = parts._replace(scheme=base.scheme, netloc=base.netloc, fragment="").geturl()
    path = whole.removeprefix(start)
    return (path, url) if whole.startswith(start) and path.strip("/") and len(url) <= MAX_URL_BYTES else None


def _is_same(one: SplitResult, other: SplitResult) -> bool:
    """Whether a page came from where it was asked for; a slash more or less, or https for http, is no difference."""
    return _host(one) == _host(other) and unquote(one.path).rstrip("/") == unquote(other.path).rstrip("/")


def _host(parts: SplitResult) -> tuple[str, int | None]:
    usual = _PORTS.get(parts.scheme)
    return (parts.hostname or "").lower(), None if parts.port in (None, usual) else parts.port


def _no_listing(message: str) -> ImageRejected:
    return ImageRejected("unreachable", message)


class _Anchors(HTMLParser):
    """The links of a page and its text, both in its order, and what its forms ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.texts: list[str] = []
        self.asks_for_password = False
        self.asks_for_text = False
        self._forms = 0
        """Those that are open."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and (link := values.get("href")):
            self.links.append(link)
        self._forms += tag == "form"
        kind = (values.get("type") or "text").strip().lower()
        self.asks_for_password |= tag == "input" and kind == "password"
        is_written = tag == "textarea" or (tag == "input" and kind not in _NOT_WRITTEN)
        self.asks_for_text |= is_written and self._forms > 0

    def handle_endtag(self, tag: str) -> None:
        self._forms -= tag == "form"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
