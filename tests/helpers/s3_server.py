"""An S3 server in this process; it remembers what it was asked."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import fsspec
from moto.server import ThreadedMotoServer


@dataclass(eq=False)  # handlers are told apart by who they are
class Store(logging.Handler):
    """What `fs` writes is what others read. Hears the server's own log."""

    url: str
    fs: fsspec.AbstractFileSystem
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path."""

    def __post_init__(self) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        if found := re.search(r"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP", record.getMessage()):
            self.asked.append((found[1], found[2]))

    def gets(self) -> list[str]:
        """Paths of the objects read since the last call."""
        paths = [path for method, path in self.asked if method == "GET" and "list-type" not in path]
        self.asked.clear()
        return paths


@contextmanager
def storing() -> Iterator[Store]:
    """A server on a free port, without buckets."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    fs = fsspec.filesystem("s3", endpoint_url=url, key="test", secret="test", use_listings_cache=False)
    store, log = Store(url, fs), logging.getLogger("werkzeug")
    level = log.level
    log.addHandler(store)
    log.setLevel("INFO")
    try:
        yield store
    finally:
        log.removeHandler(store)
        log.setLevel(level)
        server.stop()
        assert server._server
        server._server.server_close()
