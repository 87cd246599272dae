"""Runs the command in this process and keeps what it writes apart."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from milvus_fghash.cli import main

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """`run("search", "--id", "7")` in an empty folder; `env=` adds variables. Unexpected exceptions come through."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level

    def invoke(*words: str | Path, env: dict[str, str] | None = None) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words], env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    yield invoke
    if "milvus_lite" in sys.modules:  # else its servers live as long as the tests do
        from milvus_lite.server_manager import server_manager_instance

        for file in tmp_path.glob("*.db"):
            server_manager_instance.release_server(str(file))
    logging.captureWarnings(False)
    root.handlers[:] = before
    root.setLevel(level)
