"""The examples of docs/python-api.md run, in their order, on drawn birds and Milvus Lite."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import milvus_fghash as fg
from milvus_fghash.datasets.dataset import Dataset
from tests.helpers.commands import release_databases
from tests.helpers.small_bundle import write_small_bundle

pytestmark = pytest.mark.full

PAGE = (Path(__file__).parent.parent / "docs" / "python-api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
TRAINS = "fg.train("
IMPORTS = "fg.import_shards("
"""Needs a server: integration_tests/test_bulk_import.py runs it."""


@pytest.fixture
def place(tmp_path: Path, drawn_birds: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copytree(drawn_birds.root, tmp_path / "photos")
    write_small_bundle(tmp_path / "bundles" / "birds", bits=48, seed=1)
    write_small_bundle(tmp_path / "bundles" / "birds-2", bits=48, seed=2)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    release_databases(tmp_path)


def test_all_examples_but_the_training_run_in_their_order(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for example in EXAMPLES:
        if TRAINS not in example and IMPORTS not in example:
            exec(compile(example, example, "exec"), {})
    output = capsys.readouterr().out
    assert "('upload/2.png', 'format')" in output
    assert output.count("True") >= 2  # verified, and the new model's collection too


def test_the_example_of_training(place: Path) -> None:
    (example,) = [one for one in EXAMPLES if TRAINS in one]
    shutil.rmtree(place / "bundles")
    here = example.replace('"imagenet"', '"none"').replace(
        '"training.seed=7"', '"training.seed=7", "preprocessing.size=64", "preprocessing.resize=64"'
    )
    assert here.count("none") == here.count("resize") == 1
    exec(compile(here, here, "exec"), {})
    assert fg.read_bundle(Path("bundles/birds")).manifest.bits == 48


def test_each_verb_of_a_catalog_has_an_example() -> None:
    verbs = [name for name, one in inspect.getmembers(fg.Catalog, callable) if not name.startswith("_")]
    missing = [verb for verb in verbs if f".{verb}(" not in "".join(EXAMPLES)]
    assert missing == ["check_bundle", "close", "drop", "drop_previous", "exists", "photo_sources"]


def test_one_import_is_enough() -> None:
    for example in EXAMPLES:
        imports = [line for line in example.splitlines() if line.startswith(("import ", "from "))]
        assert "import milvus_fghash as fg" in imports
        assert [line for line in imports if "milvus_fghash" in line] == ["import milvus_fghash as fg"]


def test_the_errors_of_the_page_are_those_of_the_module() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE[PAGE.index("## Errors") :])) - {"stop", "delete_at_most"}
    raised = {name for name in fg.__all__ if inspect.isclass(one := getattr(fg, name)) and issubclass(one, Exception)}
    assert {name.removeprefix("fg.") for name in named} == raised - {"FghashError"}
