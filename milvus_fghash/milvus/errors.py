"""Convert exceptions of pymilvus, gRPC and Milvus Lite into a `StoreError` of one line."""

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
"""Seconds that a call may take, including retries by pymilvus."""
LOAD_TIMEOUT: Final = 600.0
"""Seconds for loading a collection or building an index, which take longer the more rows there are."""
MAX_MESSAGE_CHARACTERS = 300

LITE_FAILED = re.compile(r"Unexpected error in RPC handling|\Ainternal error\Z")
"""Messages of Milvus Lite when it fails without giving a reason; servers do not send them."""
LITE_GONE = re.compile(r"(UNAVAILABLE|Fail connecting).* unix:")
TOO_LARGE = re.compile(r"larger than max|with status: 413")
"""A message was too large for Milvus, or for a proxy in front of it."""

HINTS = (
    (LITE_GONE, "the process of Milvus Lite has ended; the same command starts it again"),
    (TOO_LARGE, "the message was too large for Milvus, or for a proxy in front of it; request less at a time"),
    (r"UNAUTHENTICATED|auth check failure|invalid credential", "the server rejected the token; it must be "
     "user:password, or an API key that is still valid"),
    (r"PERMISSION_DENIED|PrivilegeNotPermitted|permission deny", "this user lacks the privilege for it"),
    (r"DEADLINE_EXCEEDED|Retry timeout", "the server did not answer in time; is it overloaded?"),
    (r"Fail connecting|UNAVAILABLE", "the server cannot be reached; is it running, and are host, port and TLS right?"),
    (r"Received UNIMPLEMENTED|HTTP/proxy port", "the server that answers is not a Milvus (default port: 19530)"),
    (r"database not found", "there is no such database on the server"),
    (r"RESOURCE_EXHAUSTED", "the server limits the rate, or has no space left"),
)  # fmt: skip
"""Pattern in the message of an error -> hint for the user, which the message itself follows."""

BUSY = re.compile(
    r"DEADLINE_EXCEEDED|Retry timeout|UNAVAILABLE|Fail connecting|rate limit|RateLimit|too many requests|"
    r"not (fully )?loaded|not ready|not healthy|NotInService|closed channel|quota",
    re.IGNORECASE,
)
"""Errors of a Milvus that is restarting, overloaded or unreachable: the same call may succeed later."""


@contextmanager
def milvus_call(failure: str) -> Iterator[None]:
    """Convert exceptions of the calls to Milvus in a block.

    Args:
        failure: beginning of the message, such as "cannot search in photos".

    Raises:
        StoreError: for any error of Milvus or the connection; `StoreBusy` if the same call may succeed later.
    """
    try:
        yield
    except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
        kind = StoreBusy if is_busy(error) else StoreError
        raise kind(f"{failure}: {explain(error)}") from error


def is_busy(error: BaseException) -> bool:
    """Whether Milvus is only temporarily unavailable or overloaded.

    A message that is too large does not get smaller, and a Milvus Lite that failed or ended stays so.
    """
    message = _message(error)
    if any(one.search(message) for one in (LITE_FAILED, LITE_GONE, TOO_LARGE)):
        return False
    return isinstance(error, grpc.FutureTimeoutError) or bool(BUSY.search(message))


def is_too_large(error: BaseException) -> bool:
    """Whether a call failed because its message is too large."""
    return bool(TOO_LARGE.search(_message(error)))


def explain(error: BaseException) -> str:
    """The message of an error in one line, after a hint if the error is a known one."""
    message = _message(error)
    if LITE_FAILED.search(message):
        return f"{likely_cause()} ({message})"
    for pattern, hint in HINTS:
        if re.search(pattern, message):
            return f"{hint} ({message})"
    return message


def is_unimplemented(error: Any) -> bool:
    """Whether the server does not implement this call. Milvus Lite 2 lacks many."""
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
