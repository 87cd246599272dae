"""Small real bundles and Milvus Lite files for the tests of serving."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from milvus_fghash.serving import decode_pool, target
from milvus_fghash.serving.collection import HashCollection
from milvus_fghash.serving.encoder import Encoder
from milvus_fghash.serving.target import Target, connect
from tests.serving.decoders import FAILING, Processes, greys, watch
from tests.serving.small_bundle import write_small_bundle
from tests.serving.small_catalog import Catalog, draw_photos


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 bits, 16 pixels a side."""
    return write_small_bundle(tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusClient]:
    """A client of a new Milvus Lite file; the tests of a module share it under names of their own."""
    path = tmp_path_factory.mktemp("lite") / "test.db"
    with closing(connect(Target(str(path)))) as client:
        yield client
    from milvus_lite.server_manager import server_manager_instance  # warns when it is imported before `connect`

    server_manager_instance.release_server(str(path))


@pytest.fixture
def small_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MilvusClient]:
    """A client whose connection refuses messages of more than 50,000 bytes, as servers do at 64 MB."""
    options: dict[Any, int] = {**target.SELDOM_PING, b"grpc.max_send_message_length": 50_000}
    monkeypatch.setattr(target, "SELDOM_PING", options)
    path = tmp_path / "small.db"
    with closing(connect(Target(str(path)))) as client:
        yield client
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(str(path))


@pytest.fixture
def new_name() -> str:
    """A collection name nobody uses."""
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def catalog(bundle: Path, lite: MilvusClient, new_name: str, tmp_path: Path) -> Catalog:
    """Photos that are not in yet."""
    encoder = Encoder.open(bundle)
    collection = HashCollection.create(lite, new_name, encoder.bundle.manifest)
    return Catalog(encoder, draw_photos(tmp_path / "photos"), collection, tmp_path / "journal")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """100 pictures; each has its row as its grey."""
    return greys(tmp_path, 100)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Processes:
    """Grows by each process that is started to decode."""
    return watch(monkeypatch)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers fail as photos' names tell them."""
    monkeypatch.setattr(decode_pool, "WORKER", ("-c", FAILING))
