"""0 done, 1 one clear line, 2 wrong usage, 3 too many refused, 130 interrupted; a bug shows its traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from milvus_fghash.cli.group import Group
from milvus_fghash.errors import ConfigError, FghashError, StoreError, TooManyRefused

Run = Callable[..., Result]


def outcome_of(error: BaseException) -> Result:
    group = Group("fghash")

    @group.command()
    def work() -> None:
        click.echo("result")
        raise error

    return CliRunner().invoke(group, ["work"])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("no such recipe"), 1, "Error: no such recipe\n"),
        (StoreError("two\nlines  become one"), 1, "Error: two lines become one\n"),
        (TooManyRefused("3 photos were refused"), 3, "Error: 3 photos were refused\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(error: BaseException, code: int, line: str) -> None:
    result = outcome_of(error)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "result\n", line)


def test_every_error_of_the_tree_names_an_exit_code() -> None:
    def tree(kind: type[FghashError]) -> list[type[FghashError]]:
        return [kind, *(inner for child in kind.__subclasses__() for inner in tree(child))]

    assert {kind.exit_code for kind in tree(FghashError)} == {1, 3, 130}


def test_a_bug_is_not_dressed_up_as_an_error() -> None:
    result = outcome_of(ZeroDivisionError("our own mistake"))
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("words", "guess"),
    [
        (["serach"], "Did you mean search?"),
        (["train", "frozen-lhs", "--data", ".", "--out", "x"], "Did you mean frozen-lsh"),
        (["recipes", "frozen-fcanet"], "Did you mean frozen-fcaenet"),
        (["train", "frozen-lsh", "--data", ".", "--out", "x", "--set", "training.epoch=3"], "epochs_per_round"),
    ],
)
def test_a_misspelt_name_meets_the_nearest_one(run: Run, words: list[str], guess: str, tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "photo.jpg").write_bytes(b"never read")
    result = run(*words)
    assert result.exit_code in {1, 2}
    assert guess in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["train"],
        ["train", "frozen-lsh", "--data", "nowhere", "--out", "x"],
        ["train", "frozen-lsh", "--data", ".", "--out", "x", "--bits", "7"],
        ["collections", "drop", "photos"],
        ["promote"],
        ["rollback"],
        ["--log-level", "loud", "methods"],
        ["methods", "--jsn"],
    ],
)
def test_wrong_usage_is_2(run: Run, words: list[str]) -> None:
    assert run(*words).exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["recipes", "missing.toml"],
        ["inspect", "."],
        ["inspect", "--collection-name", "photos"],
        ["collections", "list"],
        ["collections", "drop", "photos", "--yes"],
        ["promote", "birds"],
        ["promote", "birds", "photos"],
        ["rollback", "birds"],
        ["inspect", "--uri", "http://127.0.0.1:9"],
        ["inspect", "--uri", "no-scheme-and-no-db"],
    ],
)
def test_bad_input_is_one_line_and_1(run: Run, words: list[str], tmp_path: Path) -> None:
    result = run(*words)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "reading must not make a Milvus Lite file"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-c", "from milvus_fghash.cli import main; main()", "methods", "--json"]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["train", "frozen-lsh", "--data", ".", "--out", "x"], ["export", ".", "--out", "x"]])
def test_without_torch_the_extra_is_named(words: list[str], tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from milvus_fghash.cli import main; main()"
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'milvus-fghash[train]'" in done.stderr
    assert "Traceback" not in done.stderr
