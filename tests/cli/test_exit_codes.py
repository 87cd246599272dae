"""0 done, 1 one clear line, 2 wrong usage, 3 too many rejected, 130 interrupted; a bug shows its traceback."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import milvus_fghash
from milvus_fghash.cli import main
from milvus_fghash.cli.group import Group
from milvus_fghash.cli.terminal.output import show_json, show_record, show_table
from milvus_fghash.errors import ConfigError, DataError, FghashError, StoreError, TooManyRejected

Run = Callable[..., Result]
ROOT = Path(__file__).parents[2]


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
        (TooManyRejected("3 photos were rejected"), 3, "Error: 3 photos were rejected\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(error: BaseException, code: int, line: str) -> None:
    result = outcome_of(error)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "result\n", line)


def test_the_option_for_the_setting_that_helps_is_named() -> None:
    group = Group("fghash")

    def fail(setting: str) -> None:
        raise DataError("it does not fit; take less", setting=setting)

    retry = click.Option(["-p", "--retry-timeout", "retry"], default=1.0)
    rows = click.Option(["--rows-per-write"], default=1)
    nested = click.Group("nested")
    nested.add_command(click.Command("drop", callback=lambda retry: fail("retry"), params=[retry]))
    for command in (
        click.Command("own", callback=lambda retry: fail("retry"), params=[retry]),
        click.Command("none", callback=lambda: fail("retry")),
        click.Command("rows", callback=lambda rows_per_write: fail("rows_per_write"), params=[rows]),
        nested,
    ):
        group.add_command(command)
    output = [CliRunner().invoke(group, words.split()).stderr for words in ("own", "none", "rows", "nested drop")]
    options = [" (--retry-timeout)", "", " (--rows-per-write)", " (--retry-timeout)"]
    assert output == [f"Error: it does not fit; take less{option}\n" for option in options]


def test_settings_that_errors_name_are_options_of_some_command() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in Path(milvus_fghash.__file__).parent.rglob("*.py"))
    settings = {word for words in re.findall(r'\bsetting="([\w ]+)"', source) for word in words.split()}
    groups = (command for command in main.commands.values() if isinstance(command, click.Group))
    commands = [*main.commands.values(), *(command for group in groups for command in group.commands.values())]
    known = {parameter.name for command in commands for parameter in command.params}
    assert settings
    assert settings <= known


@pytest.mark.parametrize("charset", ["latin-1", "cp1250"])
def test_a_stdout_that_lacks_letters_shows_their_escapes(charset: str) -> None:
    group = Group("fghash")

    @group.command()
    def work() -> None:
        show_table([{"path": "p/雀/图.jpg", "label": "x"}, {"path": "p/robin.jpg", "label": "y"}], "雀")
        show_record({"雀": {"图": ["雀"]}, "plain": "ä"})
        show_json({"path": "雀"})
        click.echo("雀")

    result = CliRunner(charset=charset).invoke(group, ["work"])
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert "p/\\u96c0/\\u56fe.jpg" in lines[1]
    assert lines[1].rindex("x") == lines[2].index("y"), "columns are as wide as what they show"
    assert lines[-1] == "\\u96c0"
    assert "ä" in result.stdout


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


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_a_result_that_cannot_be_written_is_one_line(redirection: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m milvus_fghash methods {redirection}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    if redirection == ">&-":
        assert (done.returncode, done.stderr) == (0, "")  # nobody wants it
    else:
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith("Error: the result cannot be written: No space left on device")
