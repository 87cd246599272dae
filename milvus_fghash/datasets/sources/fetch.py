"""Fetching from URLs by fsspec: many requests at once, each with a timeout, and errors without secrets."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeVar

from milvus_fghash.core.masking import without_secrets
from milvus_fghash.datasets.sources.file_systems import FileSystem, fetch_error, filesystem
from milvus_fghash.datasets.sources.location import PhotoLocation, Url, protocol_of
from milvus_fghash.errors import DataError, ImageRejected

T = TypeVar("T")
MAX_ATTEMPTS: Final = 3
"""Requests for one photo over HTTP while the server is busy or drops the connection. Other file systems retry."""
MAX_CONCURRENT_REQUESTS: Final = 32
"""Revisions and pages requested at the same time."""
MAX_PAGE_BYTES: Final = 256 << 20
"""Largest page of links; some million links."""
PAGE_TIMEOUT_SECONDS: Final = 60.0
"""Time for it to arrive."""

_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_REVISION_TIMEOUT_SECONDS = 10.0
_RETRY_DELAY_SECONDS = 0.3
"""Average delay before the second attempt; doubled before the third."""


class _HttpStatusError(OSError):
    """A response with an error status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server responded with status {status}")
        self.status = status


def fetch(location: PhotoLocation, max_bytes: int, seconds: float) -> Future[bytes]:
    """Start to fetch at most ``max_bytes`` bytes.

    Raises:
        MissingExtra, DataError: as `filesystem`.
        ImageRejected: from the future: `missing`, `timeout`, `unreachable`.
    """
    files, path = filesystem(location.address)

    async def in_time() -> bytes:
        try:
            return await asyncio.wait_for(_bytes_of(files, path, location, max_bytes), seconds)
        except Exception as error:  # aiohttp, botocore and others have their own hierarchies
            raise fetch_error(location.display_name, error, location.address) from None

    return _in_background(in_time())


@dataclass(frozen=True)
class Page:
    """A page of a web server.

    Attributes:
        url: its URL after redirects.
        media_type: such as text/html; "" when the server sends none.
    """

    url: str
    media_type: str
    text: str


def pages(urls: Sequence[str]) -> list[Page | ImageRejected]:
    """Pages of HTTP URLs, fetched concurrently; for one that cannot be fetched, the reason.

    Raises:
        MissingExtra, ConfigError, DataError: as `filesystem`.
    """
    opened = [filesystem(url)[0] for url in urls]

    async def request_all() -> list[Page | ImageRejected]:
        slots = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)

        async def request(files: FileSystem, url: str) -> Page | ImageRejected:
            async with slots:
                try:
                    return await asyncio.wait_for(_with_retries(lambda: _page(files, url)), PAGE_TIMEOUT_SECONDS)
                except Exception as error:
                    return fetch_error(without_secrets(url), error, url)

        return await asyncio.gather(*(request(files, url) for files, url in zip(opened, urls, strict=True)))

    return _in_background(request_all()).result()


@contextmanager
def opened(url: Url, block: int) -> Iterator[BinaryIO]:
    """A file behind a URL, read ``block`` bytes at a time.

    Raises:
        MissingExtra, DataError: as `filesystem`, and when it cannot be opened.
    """
    files, path = filesystem(url.full)
    try:
        file = files.open(path, "rb", block_size=block, cache_type="readahead")
    except FileNotFoundError as error:  # what fsspec raises for any failure of a web server
        cause = error.__cause__ if url.protocol in {"http", "https"} else None
        missing = getattr(cause, "status", 0) in (404, 410)
        raise DataError(str(fetch_error(str(url), cause if cause and not missing else error, url.full))) from None
    except Exception as error:
        raise DataError(str(fetch_error(str(url), error, url.full))) from None
    with file:
        yield file


def request_revisions(locations: Sequence[PhotoLocation]) -> Callable[[], list[str]]:
    """Start to request the revisions of photos behind URLs, without reading them.

    Returns:
        A function that waits for the revisions; "" for unknown ones.
    """
    opened = [filesystem(location.address) for location in locations]

    async def request_all() -> list[str]:
        slots = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)

        async def request(files: FileSystem, path: str) -> str:
            async with slots:
                try:
                    return revision_of(await asyncio.wait_for(_metadata(files, path), _REVISION_TIMEOUT_SECONDS))
                except Exception:  # fetching the photo reports the error
                    return ""

        return await asyncio.gather(*(request(files, path) for files, path in opened))

    return _in_background(request_all()).result


def revision_of(metadata: Mapping[str, Any]) -> str:
    """The revision of a file from fsspec's metadata: its ETag or modification time, and its size. A size alone is none.

    >>> revision_of({"ETag": '"0f3a"', "size": 7}), revision_of({"size": 7})
    ('"0f3a" 7', '')
    """
    known = {name.lower().replace("-", "").replace("_", ""): value for name, value in metadata.items()}
    for name in ("etag", "generation", "md5hash", "contentmd5", "lastmodified", "updated", "mtime", "modified"):
        if known.get(name):
            return f"{known[name]} {known.get('size')}"
    return ""


def _in_background(work: Coroutine[Any, Any, T]) -> Future[T]:
    from fsspec.asyn import get_loop

    return asyncio.run_coroutine_threadsafe(work, get_loop())


async def _bytes_of(files: FileSystem, path: str, location: PhotoLocation, max_bytes: int) -> bytes:
    if location.size == 0:
        return b""
    if protocol_of(location.address) in {"http", "https"}:
        return await _with_retries(lambda: _get(files, location, max_bytes))
    start, end = location.start, location.start + max_bytes
    if not files.async_impl:
        return bytes(await asyncio.to_thread(files.cat_file, path, start=start, end=end))
    try:
        return bytes(await files._cat_file(path, start=start, end=end))
    except OSError as error:
        if error.errno == errno.EINVAL and (await files._info(path))["size"] <= start:  # an empty range is an error
            return b""
        raise


async def _with_retries(request: Callable[[], Coroutine[Any, Any, T]]) -> T:
    from aiohttp import ClientError

    for number in range(MAX_ATTEMPTS):
        try:
            return await request()
        except FileNotFoundError:
            raise
        except (ClientError, OSError) as error:
            if number == MAX_ATTEMPTS - 1 or (isinstance(error, _HttpStatusError) and error.status not in _BUSY):
                raise
        await asyncio.sleep(_RETRY_DELAY_SECONDS * 2**number * random.uniform(0.5, 1.5))
    raise AssertionError("the last attempt returns or raises")


async def _page(files: FileSystem, url: str) -> Page:
    session = await files.set_session()
    async with session.get(files.encode_url(url), **files.kwargs) as response:
        _check_status(response.status)
        raw = await _read_at_most(MAX_PAGE_BYTES + 1, response)
        if len(raw) > MAX_PAGE_BYTES:
            raise OSError(f"the page has more than {MAX_PAGE_BYTES:,} bytes")
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Page(str(response.url), media_type, raw.decode(errors="replace"))


def _check_status(status: int) -> None:
    if status in (404, 410):
        raise FileNotFoundError
    if status >= 400:
        raise _HttpStatusError(status)


async def _read_at_most(max_bytes: int, response: Any) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) >= max_bytes:
            break
    return bytes(data[:max_bytes])


async def _get(files: FileSystem, location: PhotoLocation, max_bytes: int) -> bytes:
    """One GET that reads at most ``max_bytes``, whatever the server sends."""
    session, options = await files.set_session(), dict(files.kwargs)
    headers = {**options.pop("headers", {}), "Accept-Encoding": "identity"}
    if is_range := location.size is not None:
        headers["Range"] = f"bytes={location.start}-{location.start + max_bytes - 1}"
    async with session.get(files.encode_url(location.address), headers=headers, **options) as response:
        if response.status == 416:
            return b""
        _check_status(response.status)
        if is_range and response.status != 206:
            raise OSError("the server does not support range requests, which reading from an archive needs")
        return await _read_at_most(max_bytes, response)


async def _metadata(files: FileSystem, path: str) -> Mapping[str, Any]:
    if not files.async_impl:
        return dict(await asyncio.to_thread(files.info, path))
    if not hasattr(files, "set_session") or not hasattr(files, "encode_url"):
        return dict(await files._info(path))
    session = await files.set_session()  # `files.info` would also try GET where HEAD fails
    options = {"headers": {**files.kwargs.get("headers", {}), "Accept-Encoding": "identity"}}
    async with session.head(files.encode_url(path), allow_redirects=True, **{**files.kwargs, **options}) as response:
        return {**response.headers, "size": response.headers.get("Content-Length")} if response.status == 200 else {}
