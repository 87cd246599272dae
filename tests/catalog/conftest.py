"""A catalog of a small bundle, in one Milvus Lite for each file of tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import milvus_fghash as fg
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_catalog import draw_photos


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One Milvus Lite for the module; each test has a collection of its own."""
    path = tmp_path_factory.mktemp("lite") / "test.db"
    yield path
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(str(path))


@pytest.fixture
def new_name() -> str:
    """A collection name nobody uses."""
    return f"test_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def catalog(file: Path, bundle: Path, new_name: str) -> Iterator[fg.Catalog]:
    with fg.Catalog.open(file, new_name, bundle=bundle) as opened:
        yield opened


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_photos(tmp_path / "photos")
