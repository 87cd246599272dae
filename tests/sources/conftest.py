"""Real servers for photos that are elsewhere."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.sources.http_server import Site, serving
from tests.sources.s3_server import Store, storing


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture(scope="session")
def running_store() -> Iterator[Store]:
    with storing() as store:
        yield store


@pytest.fixture
def store(running_store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Found as a user's is: by the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", running_store.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    running_store.asked.clear()
    return running_store


@pytest.fixture
def bucket(store: Store) -> str:
    """A new one."""
    name = f"photos-{uuid.uuid4().hex[:12]}"
    store.fs.mkdir(name)
    return name
