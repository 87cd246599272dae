"""pymilvus sleeps half a second before it first asks whether an index is built; tests ask sooner."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymilvus.client import grpc_handler

POLL = 0.02
"""Seconds."""


class _Time:
    """The module `time`, but for its short sleeps."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        time.sleep(POLL if seconds <= 0.5 else seconds)


@contextmanager
def frequent_polls() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpc_handler, "time", _Time())
        yield
