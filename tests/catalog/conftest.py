"""A catalog of a small bundle, in one Milvus Lite for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import milvus_fghash as fg
from tests.helpers.commands import release_databases
from tests.helpers.small_catalog import draw_photos


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One Milvus Lite for the module; each test has a collection of its own."""
    path = tmp_path_factory.mktemp("lite") / "test.db"
    yield path
    release_databases(path.parent)


@pytest.fixture
def catalog(file: Path, bundle: Path, new_name: str) -> Iterator[fg.Catalog]:
    with fg.Catalog.open(file, new_name, bundle=bundle) as opened:
        yield opened


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return draw_photos(tmp_path / "photos")
