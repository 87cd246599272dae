"""What is behind URLs, by fsspec: many at once, each in its time, and told without what grants access."""

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
"""Requests for one photo, where a server says that it is busy or breaks off. Of S3 and others, fsspec counts."""
MAX_CONCURRENT_REQUESTS: Final = 32
"""Versions and pages that are asked for side by side."""
MAX_PAGE_BYTES: Final = 256 << 20
"""Bytes of a page of links; some million links."""
PAGE_TIMEOUT_SECONDS: Final = 60.0
"""For it to come."""

_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_REVISION_TIMEOUT_SECONDS = 10.0
_RETRY_DELAY_SECONDS = 0.3
"""Seconds before the second try, on average; twice as many before the third."""


class _HttpStatusError(OSError):
    """A server that did not give what was asked for."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answered {status}")
        self.status = status


def fetch(place: PhotoLocation, wanted: int, seconds: float) -> Future[bytes]:
    """Begin to fetch at the most ``wanted`` bytes of a place.

    Raises:
        MissingExtra, DataError: as `filesystem`.
        ImageRejected: by the result: `missing`, `timeout`, `unreachable`.
    """
    files, path = filesystem(place.address)

    async def in_time() -> bytes:
        try:
            return await asyncio.wait_for(_bytes_of(files, path, place, wanted), seconds)
        except Exception as error:  # aiohttp, botocore and others have trees of their own
            raise fetch_error(place.display_name, error, place.address) from None

    return _in_background(in_time())


@dataclass(frozen=True)
class Page:
    """What a web server gave for a URL.

    Attributes:
        url: where it came from, after redirects.
        kind: its media type, such as text/html; "" when the server tells none.
    """

    url: str
    kind: str
    text: str


def pages(urls: Sequence[str]) -> list[Page | ImageRejected]:
    """Pages behind URLs of HTTP, side by side; for one that does not come, why.

    Raises:
        MissingExtra, ConfigError, DataError: as `filesystem`.
    """
    opened = [filesystem(url)[0] for url in urls]

    async def ask_all() -> list[Page | ImageRejected]:
        turn = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)

        async def ask(files: FileSystem, url: str) -> Page | ImageRejected:
            async with turn:
                try:
                    return await asyncio.wait_for(_with_retries(lambda: _page(files, url)), PAGE_TIMEOUT_SECONDS)
                except Exception as error:
                    return fetch_error(without_secrets(url), error, url)

        return await asyncio.gather(*(ask(files, url) for files, url in zip(opened, urls, strict=True)))

    return _in_background(ask_all()).result()


@contextmanager
def opened(url: Url, block: int) -> Iterator[BinaryIO]:
    """A file behind a URL, to be read in parts, ``block`` bytes at a time.

    Raises:
        MissingExtra, DataError: as `filesystem`, and when it cannot be opened.
    """
    files, path = filesystem(url.full)
    try:
        file = files.open(path, "rb", block_size=block, cache_type="readahead")
    except FileNotFoundError as error:  # so fsspec calls whatever goes wrong on the way to a web server
        cause = error.__cause__ if url.protocol in {"http", "https"} else None
        missing = getattr(cause, "status", 0) in (404, 410)
        raise DataError(str(fetch_error(str(url), cause if cause and not missing else error, url.full))) from None
    except Exception as error:
        raise DataError(str(fetch_error(str(url), error, url.full))) from None
    with file:
        yield file


def request_revisions(places: Sequence[PhotoLocation]) -> Callable[[], list[str]]:
    """Begin to ask for the versions of places behind URLs, without reading them; "" where none can be known."""
    opened = [filesystem(place.address) for place in places]

    async def ask_all() -> list[str]:
        turn = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)

        async def ask(files: FileSystem, path: str) -> str:
            async with turn:
                try:
                    return revision_of(await asyncio.wait_for(_facts(files, path), _REVISION_TIMEOUT_SECONDS))
                except Exception:  # fetching tells what is the matter with it
                    return ""

        return await asyncio.gather(*(ask(files, path) for files, path in opened))

    return _in_background(ask_all()).result


def revision_of(facts: Mapping[str, Any]) -> str:
    """What fsspec knows of a file, as a version: its ETag or time of change, with its size. A size alone is none.

    >>> revision_of({"ETag": '"0f3a"', "size": 7}), revision_of({"size": 7})
    ('"0f3a" 7', '')
    """
    known = {name.lower().replace("-", "").replace("_", ""): value for name, value in facts.items()}
    for name in ("etag", "generation", "md5hash", "contentmd5", "lastmodified", "updated", "mtime", "modified"):
        if known.get(name):
            return f"{known[name]} {known.get('size')}"
    return ""


def _in_background(work: Coroutine[Any, Any, T]) -> Future[T]:
    from fsspec.asyn import get_loop

    return asyncio.run_coroutine_threadsafe(work, get_loop())


async def _bytes_of(files: FileSystem, path: str, place: PhotoLocation, wanted: int) -> bytes:
    if place.size == 0:
        return b""
    if protocol_of(place.address) in {"http", "https"}:
        return await _with_retries(lambda: _get(files, place, wanted))
    start, end = place.start, place.start + wanted
    if not files.async_impl:
        return bytes(await asyncio.to_thread(files.cat_file, path, start=start, end=end))
    try:
        return bytes(await files._cat_file(path, start=start, end=end))
    except OSError as error:
        if error.errno == errno.EINVAL and (await files._info(path))["size"] <= start:  # no range has nothing in it
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
    raise AssertionError("the last try returns or raises")


async def _page(files: FileSystem, url: str) -> Page:
    session = await files.set_session()
    async with session.get(files.encode_url(url), **files.kwargs) as answer:
        _check_status(answer.status)
        raw = await _read_at_most(MAX_PAGE_BYTES + 1, answer)
        if len(raw) > MAX_PAGE_BYTES:
            raise OSError(f"the page has more than {MAX_PAGE_BYTES:,} bytes")
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Page(str(answer.url), kind, raw.decode(errors="replace"))


def _check_status(status: int) -> None:
    if status in (404, 410):
        raise FileNotFoundError
    if status >= 400:
        raise _HttpStatusError(status)


async def _read_at_most(wanted: int, answer: Any) -> bytes:
    data = bytearray()
    async for chunk in answer.content.iter_any():
        data += chunk
        if len(data) >= wanted:
            break
    return bytes(data[:wanted])


async def _get(files: FileSystem, place: PhotoLocation, wanted: int) -> bytes:
    """One GET, of no more bytes than are wanted, whatever the server sends."""
    session, options = await files.set_session(), dict(files.kwargs)
    headers = {**options.pop("headers", {}), "Accept-Encoding": "identity"}
    if in_part := place.size is not None:
        headers["Range"] = f"bytes={place.start}-{place.start + wanted - 1}"
    async with session.get(files.encode_url(place.address), headers=headers, **options) as answer:
        if answer.status == 416:
            return b""
        _check_status(answer.status)
        if in_part and answer.status != 206:
            raise OSError("the server gives whole files only, so nothing can be read out of an archive there")
        return await _read_at_most(wanted, answer)


async def _facts(files: FileSystem, path: str) -> Mapping[str, Any]:
    if not files.async_impl:
        return dict(await asyncio.to_thread(files.info, path))
    if not hasattr(files, "set_session") or not hasattr(files, "encode_url"):
        return dict(await files._info(path))
    session = await files.set_session()  # the file system itself would also try GET where HEAD fails
    options = {"headers": {**files.kwargs.get("headers", {}), "Accept-Encoding": "identity"}}
    async with session.head(files.encode_url(path), allow_redirects=True, **{**files.kwargs, **options}) as answer:
        return {**answer.headers, "size": answer.headers.get("Content-Length")} if answer.status == 200 else {}
