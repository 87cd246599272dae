"""A Milvus Lite file and a real Milvus server for the tests here.

MILVUS_TEST_URI (and MILVUS_TEST_TOKEN) name another server to test against; else one is started and stopped.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pymilvus import MilvusClient

from integration_tests.milvus_server import milvus_server
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from tests.helpers.milvus_polls import frequent_polls


@pytest.fixture(scope="session", autouse=True)
def milvus_polls() -> Iterator[None]:
    with frequent_polls():
        yield


@pytest.fixture(scope="session")
def milvus_package() -> None:
    """For what starts a server of its own."""
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("no server: pip install milvus==2.3.5, or set MILVUS_TEST_URI")


@pytest.fixture(scope="session")
def server_uri(request: pytest.FixtureRequest) -> Iterator[str]:
    """URI of a real server."""
    given = os.environ.get("MILVUS_TEST_URI")
    if given:
        yield given
        return
    request.getfixturevalue("milvus_package")
    with milvus_server() as uri:
        yield uri


@pytest.fixture(scope="session")
def server_target(server_uri: str) -> ConnectionConfig:
    return ConnectionConfig(server_uri, os.environ.get("MILVUS_TEST_TOKEN"))


@pytest.fixture(scope="session")
def lite_target() -> Iterator[ConnectionConfig]:
    """A file of Milvus Lite that all tests of a session share: they use names of their own."""
    if importlib.util.find_spec("milvus_lite") is None:
        pytest.skip("no Milvus Lite: pip install 'milvus-fghash[lite]'")
    with tempfile.TemporaryDirectory() as folder:  # its path must stay short: Lite's file names are limited
        yield ConnectionConfig(f"{folder}/shared.db")


@pytest.fixture
def lite_uri(tmp_path: Path) -> str:
    """Path of a Milvus Lite file that does not exist yet."""
    return str(tmp_path / "test.db")


@pytest.fixture(scope="session")
def server(server_target: ConnectionConfig) -> Iterator[MilvusClient]:
    with closing(connect(server_target)) as client:
        yield client


@pytest.fixture(scope="session")
def lite(lite_target: ConnectionConfig) -> Iterator[MilvusClient]:
    with closing(connect(lite_target)) as client:
        yield client


@pytest.fixture
def new_name() -> str:
    """A collection name nobody uses, for the server may be a shared one."""
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["lite", "server"])
def client(request: pytest.FixtureRequest) -> MilvusClient:
    found: MilvusClient = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def dropped(client: MilvusClient, new_name: str) -> Iterator[str]:
    """A free collection name; whatever the test makes under it goes away."""
    yield new_name
    client.drop_collection(new_name)
