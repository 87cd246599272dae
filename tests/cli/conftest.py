"""Drawn birds, in a folder and in Milvus Lite."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.commands import GOLDEN, Run, release_databases


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    """Names of photos -> a folder with the database and the journal that `ingest` made of them."""
    return {}


@pytest.fixture
def filled(run: Run, birds: Path, tmp_path: Path, ingested: dict[tuple[str, ...], Path]) -> Run:
    """`run`, with all birds in milvus-fghash.db: the first test ingests them, the others get a copy of what that gave.

    The journal's record of the run names the first test's folder.
    """
    names = tuple(sorted(file.relative_to(birds).as_posix() for file in birds.rglob("*")))
    if names in ingested:
        shutil.copytree(ingested[names], tmp_path, dirs_exist_ok=True)
        return run
    result = run("ingest", GOLDEN, birds)
    assert result.exit_code == 0, result.stderr
    release_databases(tmp_path)
    ingested[names] = tmp_path.with_name(f"{tmp_path.name}-ingested")
    shutil.copytree(tmp_path, ingested[names], ignore=shutil.ignore_patterns("birds"))
    return run
