"""A web server with photos, that can be told to fail in every way servers do; it remembers what it was asked."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Site:
    """What is served, by path, and how.

    Attributes:
        status: answers with that status instead; `once` does so for the first request only.
        cut: closes the connection in the middle of the body.
        hang: never answers.
        moved: Location of a redirect.
        kinds: media type; without one, the server tells none.
        signed: the URL that alone is answered, path and query as they stand in the request; another gets 403.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    once: dict[str, int] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    hang: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    signed: dict[str, str] = field(default_factory=dict)
    etags: bool = True
    ranges: bool = True
    seconds: float = 0
    """Before each answer."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0
    """Bytes of bodies that the system took."""
    url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def gets(self) -> list[str]:
        """Paths of the GETs since the last call."""
        paths = [path for method, path in self.asked if method == "GET"]
        self.asked.clear()
        return paths


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    site: Site

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""

    def do_HEAD(self) -> None:
        self.answer("HEAD")

    def do_GET(self) -> None:
        self.answer("GET")

    def answer(self, method: str) -> None:
        site, path = self.site, unquote(urlsplit(self.path).path)
        site.asked.append((method, path))
        time.sleep(site.seconds)
        if path in site.hang:
            site.ended.wait(60)
        status = site.once.pop(path, 0) if method == "GET" else 0
        status = status or site.status.get(path, 200 if path in site.files else 404)
        status = 403 if site.signed.get(path, self.path) != self.path else status
        moved = f"{self.path}/" if f"{path}/" in site.files else site.moved.get(path)
        if moved and status != 403:
            self.send_response(302)
            self.send_header("Location", moved)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = site.files.get(path, b"") if status == 200 else b"no"
        whole = len(body)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if status == 200 and asked and site.ranges:
            first, last = int(asked[1]), min(int(asked[2] or whole), whole - 1)
            status = 206 if first < whole else 416
            body = body[first : last + 1]
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
        if path in site.kinds:
            self.send_header("Content-Type", site.kinds[path])
        if site.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if site.etags and path in site.files:
            self.send_header("ETag", f'"{hashlib.md5(site.files[path]).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if method == "GET":
            self.write(body[: len(body) // 2] if path in site.cut else body)
        self.close_connection = path in site.cut

    def write(self, body: bytes) -> None:
        """Until the other side has enough."""
        with suppress(ConnectionError):
            for start in range(0, len(body), 1 << 16):
                self.wfile.write(body[start : start + (1 << 16)])
                self.site.sent += len(body[start : start + (1 << 16)])


@contextmanager
def serving() -> Iterator[Site]:
    """A site on a free port."""
    site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"site": site}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        site.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
