"""pymilvus, imported here and nowhere else.

As it is imported it reads the environment and sets up log lines of its own; whoever uses this package as a library
would meet both.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["DataType", "MilvusClient", "MilvusException", "log_like_others", "lower_calls"]


@contextmanager
def _without_milvus_uri() -> Iterator[None]:
    """pymilvus takes MILVUS_URI for a server as it is imported, and dies of a file's name.

    Empty rather than absent, for pymilvus fills an absent one from a file called .env.
    """
    given = os.environ.get("MILVUS_URI")
    os.environ["MILVUS_URI"] = ""
    try:
        yield
    finally:
        if given is None:
            os.environ.pop("MILVUS_URI", None)
        else:
            os.environ["MILVUS_URI"] = given


with _without_milvus_uri():
    from pymilvus import DataType, MilvusClient
    from pymilvus.exceptions import MilvusException


def lower_calls(client: MilvusClient) -> tuple[Any, dict[str, Any]]:
    """The object whose calls `MilvusClient` makes, for those that it lacks, and what names the client's database to it.

    The only public way to them is the ORM, which pymilvus 3.1 drops.
    """
    return client._get_connection(), {"context": client._generate_call_context()}


def log_like_others() -> None:
    """Send pymilvus' log lines the way of all others; below the level debug, none.

    Its loggers come with handlers and levels of their own. What they say as an error is raised as well, and what they
    say as a warning ("failed to get mvccTs") is for pymilvus' own callers.
    """
    debugging = logging.getLogger().isEnabledFor(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "pymilvus":
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
    logging.getLogger("pymilvus").setLevel(logging.NOTSET if debugging else logging.CRITICAL)
