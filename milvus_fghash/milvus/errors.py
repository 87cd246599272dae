"""The one place where what pymilvus, gRPC and Milvus Lite raise becomes a `StoreError` of one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc

from milvus_fghash.errors import StoreBusy, StoreError, one_line
from milvus_fghash.milvus.lite import likely_cause
from milvus_fghash.milvus.pymilvus_compat import MilvusException

TIMEOUT: Final = 60.0
"""Seconds a call may take, repeats of pymilvus included."""
LOAD_TIMEOUT: Final = 600.0
"""Seconds for loading a collection or building an index, which grow with its rows."""
MAX_MESSAGE_CHARACTERS = 300

LITE_FAILED = re.compile(r"Unexpected error in RPC handling|\Ainternal error\Z")
"""What Milvus Lite says when it fails for a reason that it keeps to itself; no server does."""
LITE_GONE = re.compile(r"(UNAVAILABLE|Fail connecting).* unix:")
TOO_LARGE = re.compile(r"larger than max|with status: 413")
"""A message that Milvus, or what stands before it, takes for too large."""

HINTS = (
    (LITE_GONE, "the process of Milvus Lite has ended; the same command starts it again"),
    (TOO_LARGE, "the message was too large for Milvus, or for what stands before it; ask for less at a time"),
    (r"UNAUTHENTICATED|auth check failure|invalid credential", "the server rejected the token; it must be "
     "user:password, or an API key that is still valid"),
    (r"PERMISSION_DENIED|PrivilegeNotPermitted|permission deny", "this user may not do that; ask for the right"),
    (r"DEADLINE_EXCEEDED|Retry timeout", "the server did not answer in time; is it overloaded?"),
    (r"Fail connecting|UNAVAILABLE", "the server cannot be reached; is it running, and are host, port and TLS right?"),
    (r"Received UNIMPLEMENTED|HTTP/proxy port", "something answers there, but it is no Milvus (usual port: 19530)"),
    (r"database not found", "there is no such database on the server"),
    (r"RESOURCE_EXHAUSTED", "the server limits the rate, or has no room left"),
)  # fmt: skip
"""What the text of an error matches -> what to tell; the server's own words follow."""

BUSY = re.compile(
    r"DEADLINE_EXCEEDED|Retry timeout|UNAVAILABLE|Fail connecting|rate limit|RateLimit|too many requests|"
    r"not (fully )?loaded|not ready|not healthy|NotInService|closed channel|quota",
    re.IGNORECASE,
)
"""Errors of a Milvus that is restarting, overloaded or out of reach: what fails so may go through later."""


@contextmanager
def milvus_call(doing: str) -> Iterator[None]:
    """Run calls to Milvus.

    Args:
        doing: how the message begins, such as "cannot search in photos".

    Raises:
        StoreError: for whatever the calls raise because of Milvus or the way there; `StoreBusy` where the same call
            may go through later.
    """
    try:
        yield
    except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
        kind = StoreBusy if is_busy(error) else StoreError
        raise kind(f"{doing}: {explain(error)}") from error


def is_busy(error: BaseException) -> bool:
    """Whether Milvus is only gone or overloaded for now.

    A message that is too large never gets smaller, and a Milvus Lite that failed or ended stays so.
    """
    said = _message(error)
    if any(one.search(said) for one in (LITE_FAILED, LITE_GONE, TOO_LARGE)):
        return False
    return isinstance(error, grpc.FutureTimeoutError) or bool(BUSY.search(said))


def is_too_large(error: BaseException) -> bool:
    """Whether a call failed for the size of its message."""
    return bool(TOO_LARGE.search(_message(error)))


def explain(error: BaseException) -> str:
    """One line: a hint where the error is a known one, and what was said."""
    said = _message(error)
    if LITE_FAILED.search(said):
        return f"{likely_cause()} ({said})"
    for pattern, hint in HINTS:
        if re.search(pattern, said):
            return f"{hint} ({said})"
    return said


def is_unimplemented(error: Any) -> bool:
    """Whether the other side does not know this call; so Milvus Lite 2 answers many."""
    return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNIMPLEMENTED


def _message(error: Any) -> str:
    if isinstance(error, MilvusException):
        text = str(error.message)
    elif hasattr(error, "code") and hasattr(error, "details"):  # what grpc raises is an RpcError and a Call in one
        text = f"{error.code().name} {error.details() or ''}"
    else:
        text = str(error) or type(error).__name__
    text = one_line(text)
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 3] + "..."
