"""Drawn birds, in a folder and in Milvus Lite."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.commands import GOLDEN, Run


@pytest.fixture
def filled(run: Run, birds: Path) -> Run:
    """`run`, after all birds were ingested into milvus-fghash.db."""
    result = run("ingest", GOLDEN, birds)
    assert result.exit_code == 0, result.stderr
    return run
