"""The rules of conftest.py, tried on pytest itself: which tests run, when a skip fails, one thread for torch, and that
no secret of one test is masked in the next."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.full

ROOT = Path(__file__).parent.parent
FILES = {
    "test_in_a_test.py": "import pytest\ndef test_it():\n    pytest.skip('no photos')\n",
    "test_by_a_mark.py": "import pytest\n@pytest.mark.skip(reason='no photos')\ndef test_it():\n    pass\n",
    "test_of_a_file.py": "import pytest\npytest.skip('no photos', allow_module_level=True)\n",
    "test_expected.py": "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_it():\n    assert False\n",
    "test_quick.py": "import os\ndef test_it():\n    assert os.environ['OMP_NUM_THREADS'] == '1'\n",
    "test_full.py": "import pytest\npytestmark = pytest.mark.full\ndef test_it():\n    pass\n",
    "test_slow.py": "import pytest\npytestmark = pytest.mark.slow\ndef test_it():\n    pass\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\ntestpaths = ["tests"]\nmarkers = ["full", "slow"]\naddopts = ["--strict-markers"]\n'
    )
    (tmp_path / "tests").mkdir()
    for name, text in FILES.items():
        (tmp_path / "tests" / name).write_text(text)
    return tmp_path


def outcomes(folder: Path, *words: str, ci: str = "") -> dict[str, str]:
    """Name of a file -> how its test ended; only of those that ran."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rA",
        "-p",
        "no:cacheprovider",
        "--continue-on-collection-errors",
        *words,
    ]
    environment = {**os.environ, "CI": ci}
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return {name: how for how, name in re.findall(r"^([A-Z]+) .*?tests/test_(\w+)\.py", done.stdout, re.MULTILINE)}


def test_plain_pytest_runs_what_is_quick(folder: Path) -> None:
    quick = {"in_a_test": "SKIPPED", "by_a_mark": "SKIPPED", "of_a_file": "SKIPPED", "expected": "XFAIL"}
    assert outcomes(folder) == {**quick, "quick": "PASSED"}


def test_a_path_runs_all_but_what_is_slow_and_where_ci_is_set_a_skip_fails(folder: Path) -> None:
    failed = {"in_a_test": "FAILED", "by_a_mark": "ERROR", "of_a_file": "ERROR", "expected": "XFAIL"}
    assert outcomes(folder, "tests", ci="true") == {**failed, "quick": "PASSED", "full": "PASSED"}


def test_a_mark_is_taken_as_it_is(folder: Path) -> None:
    assert outcomes(folder, "-m", "slow").get("slow") == "PASSED"


def test_a_secret_of_one_test_is_an_ordinary_word_in_the_next(folder: Path) -> None:
    imported = "from milvus_fghash.core.masking import KNOWN_SECRETS, masked\n"
    adds = "def test_adds():\n    KNOWN_SECRETS.add('word')\n"
    reads = "def test_reads():\n    assert masked('a word') == 'a word'\n"
    (folder / "tests" / "test_secrets.py").write_text(imported + adds + reads)
    assert outcomes(folder, "tests/test_secrets.py") == {"secrets": "PASSED"}
