"""pymilvus comes in by one door: it neither dies of a file's name nor writes log lines of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import milvus_fghash

pytestmark = pytest.mark.full

PACKAGE = Path(milvus_fghash.__file__).parent


@pytest.mark.parametrize("uri", ["photos.db", "http://localhost:19530", None])
def test_whatever_milvus_uri_says_the_import_works_and_leaves_it(uri: str | None, tmp_path: Path) -> None:
    script = "import os, milvus_fghash.search.search; print(os.environ.get('MILVUS_URI'))"
    environment = {**os.environ, **({"MILVUS_URI": uri} if uri else {})}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"{uri}\n", "")


def test_no_other_file_imports_pymilvus() -> None:
    importing = [
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if re.search(r"^(from|import) pymilvus", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert importing == []  # the driver's own imports are indented
    assert "from pymilvus import" in (PACKAGE / "milvus" / "pymilvus_compat.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("level", "expected"), [("WARNING", []), ("INFO", []), ("DEBUG", ["heard: lost", "heard: slow"])]
)
def test_its_log_lines_take_the_way_of_all_others(level: str, expected: list[str]) -> None:
    script = (
        "import logging\n"
        f"logging.basicConfig(level='{level}', format='heard: %(message)s')\n"
        "from milvus_fghash.milvus.pymilvus_compat import use_root_logging\n"
        "use_root_logging()\n"
        "logging.getLogger('pymilvus.milvus_client.milvus_client').error('lost')\n"
        "logging.getLogger('pymilvus.client.iterator.query_iterator').warning('slow')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [line for line in done.stderr.splitlines() if "lost" in line or "slow" in line] == expected
