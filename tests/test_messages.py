"""Messages of the library name no options of the command line, which adds those that help by `FghashError.setting`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from milvus_fghash.cli import main

ROOT = Path(__file__).parent.parent
FILES = sorted(
    path
    for folder in ("milvus_fghash", "exporters")
    for path in (ROOT / folder).rglob("*.py")
    if not {"cli"} & set(path.relative_to(ROOT).parts) and "milvus_fghash/exporters" not in path.as_posix()
)


def options_of(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        yield from (word for word in (*parameter.opts, *parameter.secondary_opts) if word.startswith("--"))
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from options_of(inner)


OPTION = re.compile(rf"(?<![\w-])({'|'.join(sorted(set(options_of(main)), key=len, reverse=True))})(?![\w-])")


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Texts that may be shown: all but docstrings and what stands below a name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_message_of_the_library_names_an_option(path: Path) -> None:
    named = [(line, found.group()) for line, text in texts_of(path) if (found := OPTION.search(text))]
    assert not named, f"{path.name}: say what helps, and give the error `setting=`"


def test_the_test_sees_options(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text('"""--out"""\nSTYLE = "var(--line)"\nraise ValueError(f"{1} is there; give another --out")\n')
    assert [line for line, text in texts_of(file) if OPTION.search(text)] == [3]
