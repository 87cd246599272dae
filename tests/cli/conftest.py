"""Drawn birds, in a folder and in Milvus Lite."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from milvus_fghash.data.listing import Listing
from tests.cli.at_hand import GOLDEN, Run


@pytest.fixture
def birds(drawn_birds: Listing, tmp_path: Path) -> Path:
    """36 drawn birds of 4 classes, in train/ and test/."""
    return Path(shutil.copytree(drawn_birds.root, tmp_path / "birds"))


@pytest.fixture
def filled(run: Run, birds: Path) -> Run:
    """`run`, after all birds were ingested into milvus-fghash.db."""
    result = run("ingest", GOLDEN, birds)
    assert result.exit_code == 0, result.stderr
    return run
