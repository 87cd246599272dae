"""Folder listings of web servers, distinguished from login pages, error pages and other responses."""

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

_MEDIA_TYPES: Final = frozenset({"text/html", "application/xhtml+xml", ""})
_LISTING: Final = re.compile(r"(?i)index of|directory listing|listing directory|parent directory|files within")
"""Text on listings, even of empty folders, by nginx, Apache, lighttpd, IIS, Python and Express."""
_NON_TEXT_INPUTS: Final = frozenset(
    {"search", "hidden", "submit", "button", "reset", "image", "checkbox", "radio", "file", "range", "color"}
)
"""Types of form inputs that are allowed on a listing; it may have one for searching."""
_UP: Final = frozenset({"..", "../", "./.."})
_PORTS: Final = {"http": 80, "https": 443}


def with_slash(url: str) -> str:
    """The URL of a folder's listing, which web servers send only when the path ends in a slash.

    >>> with_slash("https://host/birds?key=1")
    'https://host/birds/?key=1'
    """
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/") + "/", fragment="").geturl()


def list_folders(urls: Sequence[str]) -> list[dict[str, str] | ImageRejected]:
    """The entries of each folder: relative path, with a slash at the end for a folder -> URL.

    A page is the listing of its folder when it comes from the requested URL and links to entries below it, or states
    that it is a listing. A page with a text form must state so, or link to the parent folder. For any other page, such
    as a login page or an empty one, the reason is returned.

    Raises:
        MissingExtra, ConfigError, DataError: as `file_systems.filesystem`.
    """
    answers = zip(pages(urls), urls, strict=True)
    return [page if isinstance(page, ImageRejected) else _listing(page, url) for page, url in answers]


def _listing(page: Page, requested: str) -> dict[str, str] | ImageRejected:
    shown = without_secrets(requested)
    if not _is_same(urlsplit(page.url), urlsplit(requested)):
        return _no_listing(f"{shown} redirects to {without_secrets(page.url)}")
    if page.media_type not in _MEDIA_TYPES:
        return _no_listing(f"{shown} returns {page.media_type}; expected a page that links to the files of the folder")
    parser = _Anchors()
    parser.feed(page.text)
    parser.close()
    if parser.asks_for_password:
        return _no_listing(f"{shown} returns a page that asks for a password")
    below = dict(filter(None, (_below(link, requested) for link in parser.links)))
    is_declared = bool(_UP.intersection(parser.links) or _LISTING.search("".join(parser.texts)))
    if parser.asks_for_text and not is_declared:
        return _no_listing(f"{shown} returns a page with a form, not the listing of a folder")
    if not below and not is_declared:
        what = "a page without links to files of the folder" if page.text.strip() else "an empty page"
        return _no_listing(f"{shown} returns {what}, not the listing of a folder")
    return below


def _below(link: str, requested: str) -> tuple[str, str] | None:
    """Relative path and URL of the target of a link on the page ``requested``, if it lies below that."""
    try:
        base, parts = urlsplit(requested), urlsplit(urljoin(requested, link.strip()))
        if parts.scheme not in _PORTS or _host(parts) != _host(base) or parts.query:
            return None
    except ValueError:
        return None
    start, target = unquote(base.path), unquote(parts.path)
    url = parts._replace(scheme=base.scheme, netloc=base.netloc, fragment="").geturl()
    path = target.removeprefix(start)
    return (path, url) if target.startswith(start) and path.strip("/") and len(url) <= MAX_URL_BYTES else None


def _is_same(one: SplitResult, other: SplitResult) -> bool:
    """Whether a page came from the requested URL; a trailing slash, or https for http, makes no difference."""
    return _host(one) == _host(other) and unquote(one.path).rstrip("/") == unquote(other.path).rstrip("/")


def _host(parts: SplitResult) -> tuple[str, int | None]:
    default = _PORTS.get(parts.scheme)
    return (parts.hostname or "").lower(), None if parts.port in (None, default) else parts.port


def _no_listing(message: str) -> ImageRejected:
    return ImageRejected("unreachable", message)


class _Anchors(HTMLParser):
    """The links and the text of a page, and the inputs of its forms."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.texts: list[str] = []
        self.asks_for_password = False
        self.asks_for_text = False
        self._forms = 0
        """Number of open ones."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and (link := values.get("href")):
            self.links.append(link)
        self._forms += tag == "form"
        kind = (values.get("type") or "text").strip().lower()
        self.asks_for_password |= tag == "input" and kind == "password"
        is_text_input = tag == "textarea" or (tag == "input" and kind not in _NON_TEXT_INPUTS)
        self.asks_for_text |= is_text_input and self._forms > 0

    def handle_endtag(self, tag: str) -> None:
        self._forms -= tag == "form"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
