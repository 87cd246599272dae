"""The documentation site: it builds without a warning, names everything public, and loads nothing from other hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import milvus_fghash

ROOT = Path(__file__).parent.parent
LOADED = re.compile(
    r"<(?:script|link|img|iframe|source|video|audio|object)\b[^>]*\b(?:src|href|data)=[\"']?(https?:|//)"
)
LOADED_BY_CSS = re.compile(r"(?:@import|url\()\s*[\"']?(https?:|//)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return out


@pytest.mark.full
@pytest.mark.extras
def test_it_loads_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not LOADED.search(page.read_text(encoding="utf-8")), page.name
    for sheet in site.rglob("*.css"):
        assert not LOADED_BY_CSS.search(sheet.read_text(encoding="utf-8")), sheet.name
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in config  # else Google's
    assert not re.search("^repo_url:", config, re.MULTILINE)  # with it, each page asks api.github.com


@pytest.mark.full
@pytest.mark.extras
def test_the_reference_shows_every_docstring(site: Path) -> None:
    text = (site / "reference" / "index.html").read_text(encoding="utf-8")
    for name in set(milvus_fghash.__all__) - {"__version__"}:
        assert f'id="{milvus_fghash._MODULE_OF[name]}.{name}"' in text, name


def test_a_page_that_loads_is_seen() -> None:
    for bad in ('<script src="https://x/a.js">', "<link rel=stylesheet href=//x/a.css>", '<img alt="" src="http://x">'):
        assert LOADED.search(bad)
    assert LOADED_BY_CSS.search("@import url(https://fonts.example/css)")
    assert not LOADED.search('<a href="https://milvus.io">')


def test_the_navigation_names_every_page() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    named = set(re.findall(r"[\w-]+\.md", nav))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= named


def test_the_reference_names_everything_public() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
    expected = [f"{milvus_fghash._MODULE_OF[name]}.{name}" for name in milvus_fghash.__all__ if name != "__version__"]
    assert sorted(named) == sorted(expected)
