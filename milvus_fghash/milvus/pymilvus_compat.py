"""The only import of pymilvus, without its side effects.

On import, pymilvus reads the environment and configures its own log handlers, which would affect programs that use this
package as a library.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["DataType", "MilvusClient", "MilvusException", "lower_calls", "use_root_logging"]


@contextmanager
def _without_milvus_uri() -> Iterator[None]:
    """On import, pymilvus takes MILVUS_URI as the address of a server, and fails if it is a file name.

    The variable is set to "" rather than unset, since pymilvus fills an unset one from a file called .env.
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
    """The gRPC handler behind a `MilvusClient`, and the arguments that select the client's database.

    It has calls that `MilvusClient` lacks. The only public way to them is the ORM, which pymilvus 3.1 drops.
    """
    return client._get_connection(), {"context": client._generate_call_context()}


def use_root_logging() -> None:
    """Send log records of pymilvus to the root logger, and only if it logs at level DEBUG.

    The loggers of pymilvus have their own handlers and levels. Their errors are raised as exceptions, too, and their
    warnings ("failed to get mvccTs") concern only pymilvus itself.
    """
    debugging = logging.getLogger().isEnabledFor(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "pymilvus":
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
    logging.getLogger("pymilvus").setLevel(logging.NOTSET if debugging else logging.CRITICAL)
