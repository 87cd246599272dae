"""Where CI is set, a test that cannot run is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SKIPPED = {
    "in a test": "import pytest\ndef test_it():\n    pytest.skip('no photos')\n",
    "by a mark": "import pytest\n@pytest.mark.skip(reason='no photos')\ndef test_it():\n    pass\n",
    "of a file": "import pytest\npytest.skip('no photos', allow_module_level=True)\n",
}


def run_pytest(folder: Path, ci: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "conftest.py", folder)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "CI": ci}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("text", SKIPPED.values(), ids=SKIPPED)
def test_a_skip_fails_where_ci_is_set(text: str, tmp_path: Path) -> None:
    (tmp_path / "test_skipped.py").write_text(text)
    done = run_pytest(tmp_path, ci="true")
    assert done.returncode != 0
    assert "no photos" in done.stdout
    assert run_pytest(tmp_path, ci="").returncode in {0, 5}


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    (tmp_path / "test_expected.py").write_text(
        "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_it():\n    assert False\n"
    )
    assert run_pytest(tmp_path, ci="true").returncode == 0
