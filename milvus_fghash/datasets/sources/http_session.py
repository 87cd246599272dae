"""HTTP requests that send URLs byte for byte: the signature of a signed URL covers its exact spelling.

aiohttp itself either requotes a whole URL, which breaks its signature, or sends illegal characters such as spaces.
"""

from __future__ import annotations

import re
import string
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from yarl import URL

_LEGAL: Final = string.ascii_letters + string.digits + "-._~:/?#[]@!$&'()*+,;=%"
"""Characters of a URL (RFC 3986)."""
_BARE_PERCENT: Final = re.compile("%(?![0-9A-Fa-f]{2})")


async def new_session(**options: Any) -> aiohttp.ClientSession:
    """A session for fsspec (its ``get_client``) that also follows redirects to their exact URLs."""
    return aiohttp.ClientSession(**{"requote_redirect_url": False, "request_class": _ExactRequest, **options})


def as_sent(url: URL) -> URL:
    """A URL in which only characters that no request can hold, such as spaces and umlauts, are encoded.

    >>> as_sent(URL("http://host/o%27bird é.jpg?sig=a%2Fb", encoded=True)).raw_path_qs
    '/o%27bird%20%C3%A9.jpg?sig=a%2Fb'
    """
    authority = url.raw_authority
    if not authority.isascii():
        authority = URL(f"{url.scheme}://{authority}/").raw_authority
    target = _BARE_PERCENT.sub("%25", quote(url.raw_path_qs, safe=_LEGAL))
    return URL(f"{url.scheme}://{authority}{target}", encoded=True)


class _ExactRequest(aiohttp.ClientRequest):
    """Applies `as_sent` to the URL of each request, redirects included."""

    def __init__(self, method: str, url: URL, **options: Any) -> None:
        super().__init__(method, as_sent(url), **options)
