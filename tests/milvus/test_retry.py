"""Calls that are made again: how often, how long, and what ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from pymilvus.exceptions import MilvusException

from milvus_fghash.errors import StoreBusy, StoreError
from milvus_fghash.milvus.errors import is_busy
from milvus_fghash.milvus.retry import RetryPolicy

QUICK = RetryPolicy(seconds=5, first_pause=0.01, max_pause=0.02)


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [error] * times

    def call() -> str:
        if left:
            raise left.pop()
        return "done"

    return call


def test_a_busy_milvus_is_retried_with_one_message() -> None:
    messages: list[str] = []
    assert QUICK.call(failing(3, StoreBusy("gone")), threading.Event(), messages.append) == "done"
    assert messages == ["gone; retrying for 5 s", "Milvus is available again"]


def test_an_error_that_waiting_does_not_resolve_is_raised_at_once() -> None:
    with pytest.raises(StoreError, match="wrong"):
        QUICK.call(failing(1, StoreError("wrong")), threading.Event())


def test_the_time_limit_ends_the_retries() -> None:
    with pytest.raises(StoreBusy, match="gone; gave up after 0 s") as caught:
        RetryPolicy(0.05, 0.01, 0.02).call(failing(1000, StoreBusy("gone")), threading.Event())
    assert caught.value.setting == "retry"


def test_a_limit_of_zero_is_one_attempt() -> None:
    with pytest.raises(StoreBusy, match="gave up"):
        RetryPolicy(0).call(failing(1, StoreBusy("gone")), threading.Event())


def test_stop_ends_a_pause() -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    started = time.monotonic()
    with pytest.raises(StoreBusy):
        RetryPolicy(60, first_pause=30).call(failing(2, StoreBusy("gone")), stop)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("text", "busy"),
    [
        ("Fail connecting to server on localhost:19530", True),
        ("Retry timeout: 60.0s", True),
        ("request is rejected by grpc RateLimiter middleware, please retry later: rate limit exceeded", True),
        ("collection not loaded", True),
        ("RESOURCE_EXHAUSTED: Received message larger than max (70000000 vs. 67108864)", False),
        ("auth check failure, please check username and password", False),
        ("field data type mismatch", False),
        (
            "Fail connecting to server on unix:/tmp/a.db.sock, illegal connection params",
            False,
        ),  # Lite does not come back
        (
            "[upsert] Retry timeout: 60.0s, StatusCode.UNKNOWN, Unexpected error in RPC handling",
            False,
        ),  # Lite, full disk
    ],
)
def test_which_errors_are_retried(text: str, busy: bool) -> None:
    assert is_busy(MilvusException(message=text)) == busy
