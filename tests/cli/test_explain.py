"""`explain` on the committed bundle and drawn birds; no torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
import pytest

from milvus_fghash.cli import main
from milvus_fghash.explain.explain import ExplainOptions, ExplainResult
from tests.helpers.commands import GOLDEN, Run
from tests.helpers.planted_models import ExplainPage

pytestmark = pytest.mark.full


def test_a_page_is_written_and_counted(run: Run, birds: Path, tmp_path: Path) -> None:
    result = run("explain", GOLDEN, "--data", birds, "--queries", "3", "--bits-shown", "7,2,7", "-k", "4", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document == {"page": "explained/index.html", "queries": 3, "gallery": 24, "bits": 2, "rejected": []}
    page = ExplainPage.read(tmp_path / document["page"])
    assert list(page.sections) == ["query-1", "query-2", "query-3", "bit-7", "bit-2"]
    assert [len(group) for group in page.sections["query-1"].groups] == [3, 4]
    assert "24 photos of 4 classes: split 'train' of folder birds" in page.text


def test_what_is_asked_for_is_what_is_shown(run: Run, birds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ExplainOptions] = []

    def write(models: object, dataset: object, out: Path, options: ExplainOptions, **_: object) -> ExplainResult:
        asked.append(options)
        return ExplainResult(out, 0, 0, 0, ())

    monkeypatch.setattr("milvus_fghash.explain.explain.explain", write)
    words = ["--query-split", "a", "--gallery-split", "b", "--queries", "3", "-k", "4", "--bits-shown", "5"]
    assert run("explain", GOLDEN, "--data", birds, *words, "--max-maps", "6").exit_code == 0
    assert run("explain", GOLDEN, "--data", birds).exit_code == 0
    assert asked == [ExplainOptions("a", "b", 3, (), 4, (5,), 6), ExplainOptions()]


def test_a_second_model_and_a_photo_by_name(run: Run, birds: Path, tmp_path: Path) -> None:
    photo = min(birds.glob("train/*/*.jpg"))
    other = shutil.copytree(GOLDEN, tmp_path / "other" / GOLDEN.name)
    words = ["--data", birds, "--image", photo, "--against", other, "--gallery-split", "test", "--out", "page"]
    assert run("explain", GOLDEN, *words).exit_code == 0
    page = ExplainPage.read(tmp_path / "page" / "index.html")
    assert len(page.sections["query-1"].groups) == 4
    assert "bits), golden/bundle-v1 and" in page.text
    assert "bits), other/bundle-v1 learned" in page.text
    assert run("explain", GOLDEN, *words).exit_code == 1
    assert run("explain", GOLDEN, *words, "--overwrite").exit_code == 0


def test_photos_that_cannot_be_read_are_reported(run: Run, birds: Path, tmp_path: Path) -> None:
    (min(birds.glob("train/*/*.jpg")).parent / "empty.jpg").write_bytes(b"")
    words = ["explain", str(GOLDEN), "--data", str(birds), "--queries", "1", "--bits-shown", "0", "--json"]
    result = run(*words)
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: 1 photos could not be read (listed at the end of the page)")
    (rejected,) = json.loads(result.stdout)["rejected"]
    assert (Path(rejected["path"]).name, rejected["reason"]) == ("empty.jpg", "empty")
    assert "empty.jpg" in (tmp_path / "explained" / "index.html").read_text()
    assert run(*words, "--overwrite", "--max-errors", "1").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--bits-shown", "1,x"], 2, "expects numbers such as 0,5,7"),
        (["--bits-shown", "12"], 1, "no bit 12; its bits are 0 to 11"),
        (["--query-split", "tset"], 1, "Did you mean test?"),
        (["--provider", "nowhere"], 1, "no provider"),
        (["--against", str(GOLDEN)], 1, "bundle-v1 is compared with itself; expected another bundle or checkpoint"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(
    run: Run, birds: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    result = run("explain", GOLDEN, "--data", birds, *words)
    assert result.exit_code == code
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["birds"]


@pytest.mark.parametrize(("command", "option"), [("explain", "--image"), ("compare", "--set"), ("ablate", "--set")])
def test_help_says_which_options_may_be_repeated(command: str, option: str) -> None:
    (found,) = [parameter for parameter in main.commands[command].params if option in parameter.opts]
    assert isinstance(found, click.Option)
    assert found.multiple
    assert "May be repeated" in (found.help or "")
