"""What README says twice is compared with the code, and what it shows is run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from milvus_fghash import __version__
from milvus_fghash.cli import main
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.evaluation import record as evaluate
from milvus_fghash.methods import METHODS
from milvus_fghash.recipes.loader import setting_names

pytestmark = pytest.mark.full

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RECIPES = sorted((ROOT / "milvus_fghash" / "recipes").rglob("*.toml"))
PROGRAM = re.compile(r"(?:^|\s|/)milvus-fghash\s+(.+)")


def table(page: str, first: str) -> list[list[str]]:
    """Rows of the table of a page of docs/ whose header begins with this word, without header and rule."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |")) + 2
    end = next(number for number in range(start, len(lines)) if not lines[number].startswith("|"))
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[start:end]]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shown_commands() -> Iterator[tuple[str, str]]:
    """Where a command line of ours is shown, and its words: fenced blocks of all pages, examples of --help, recipes."""
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8"), "(?:sh|bash|console)?"):
            for line in block.replace("\\\n", " ").splitlines():
                if found := PROGRAM.search(line.partition("#")[0]):
                    yield page.name, found.group(1)
    for name, command in each_command(main):
        for line in (command.help or "").splitlines():
            if line.lstrip().startswith(("Example:", "milvus-fghash")) and (found := PROGRAM.search(line)):
                yield f"{name} --help", found.group(1)
    for recipe in RECIPES:
        for line in recipe.read_text(encoding="utf-8").replace("\\\n#", " ").splitlines():
            if line.startswith("#") and (found := PROGRAM.search(line)):
                yield recipe.name, found.group(1)


def each_command(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", one) for inner, one in each_command(command))
        else:
            yield name, command


def test_the_table_of_commands_is_the_command_line() -> None:
    assert table("commands.md", "command") == [
        [name, command.get_short_help_str(100)] for name, command in main.commands.items()
    ]


def test_the_table_of_methods_is_the_table_of_methods() -> None:
    assert table("methods.md", "name") == [
        [name, card.title, card.source, card.learns] for name, card in METHODS.items()
    ]


@pytest.mark.parametrize(("place", "words"), sorted(set(shown_commands())))
def test_shown_commands_exist_with_their_options(place: str, words: str) -> None:
    command: click.Command = main
    parts = shlex.split(words.partition(">")[0].partition("|")[0])
    while isinstance(command, click.Group):
        assert parts, f"{place}: {words} names no command"
        assert parts[0] in command.commands, f"{place}: no command {parts[0]!r}"
        command = command.commands[parts.pop(0)]
    known = {"-h", "--help"} | {flag for parameter in command.params for flag in parameter.opts}
    used = {part.partition("=")[0] for part in parts if part.startswith("-") and not part.lstrip("-").isdigit()}
    assert used <= known, f"{place}: {words}"


def test_enough_commands_are_shown() -> None:
    assert len({words.split()[0] for _place, words in shown_commands()}) == len(main.commands)
    assert {file.parent.name for file in RECIPES} == {"methods", "settings"}


@pytest.mark.parametrize("setting", [name for name in setting_names() if name != "demo"])
def test_a_setting_shows_how_to_train_and_how_to_make_one_cell(setting: str) -> None:
    train, cell = [shlex.split(words) for place, words in shown_commands() if place == f"{setting}.toml"]
    assert train[:2] == ["train", f"{setting}-METHOD"]
    assert cell[:4] == ["compare", setting, "--methods", "METHOD"]
    assert cell[cell.index("--trials") + 1] == cell[cell.index("--seeds") + 1] == "1"
    assert cell[cell.index("--out") + 1] == f"runs/{setting}"
    for option in {"--data", "--bits", *(["--weights"] if "--weights" in train else [])}:
        assert cell[cell.index(option) + 1] == train[train.index(option) + 1]


def test_each_command_has_an_example_and_a_short_help_that_fits() -> None:
    for name, command in each_command(main):
        assert "Example: milvus-fghash " + name in (command.help or ""), name
        assert not command.get_short_help_str(60).endswith("..."), name


def test_the_python_example_runs(drawn_birds: Dataset, tmp_path: Path) -> None:
    (example,) = blocks(README, "python")
    shutil.copytree(ROOT / "tests" / "golden" / "bundle-v1", tmp_path / "bundles" / "birds")
    shutil.copytree(drawn_birds.root, tmp_path / "photos")
    (tmp_path / "photos" / "test" / "robin").mkdir()
    shutil.copy(drawn_birds.file(0), tmp_path / "photos" / "test" / "robin" / "0001.jpg")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *hits = done.stdout.splitlines()
    assert "stored=24, unchanged=0, rejected=0" in first
    assert len(hits) == 5
    assert hits[0].startswith("0 ")


def test_the_example_is_short() -> None:
    (example,) = blocks(README, "python")
    assert len([line for line in example.splitlines() if line.strip() and "import" not in line]) <= 10


def test_the_table_of_extras_is_that_of_the_package_and_names_the_commands_that_need_them() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    rows = {name.strip("[]"): uses for name, uses in table("install.md", "extra")}
    assert set(rows) == set(extras) - {"dev", "docs"}
    named = {
        word: {extra for extra, uses in rows.items() if re.search(rf"(?<!--)\b{word}\b", uses)}
        for word in main.commands
    }
    assert named["train"] == {"train"}
    assert named["compare"] == named["ablate"] == {"train", "plot"}
    assert named["export"] == {"train", "cpu"}  # what it wrote is run by ONNX Runtime before anyone gets it
    assert named["demo"] == {"train", "cpu", "lite", "plot"}
    assert named["explain"] == {"train", "cpu"}


def test_what_learned_codes_are_is_said_alike_everywhere() -> None:
    words = "codes optimised with the labels of the training photos: one per photo"
    pages = [
        (ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("ties-and-galleries.md", "bundle-format.md")
    ]
    for text in (*pages, evaluate.__doc__ or ""):
        assert words in " ".join(text.split())


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_and_the_architecture_are_short() -> None:
    assert len(README.splitlines()) <= 160
    assert len((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines()) <= 100


def test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:milvus_fghash/)?([a-z_]+(?:/[a-z_]+)*\.py)`", text))
    assert len(named) > 20
    homes = (ROOT, ROOT / "milvus_fghash")
    assert [name for name in sorted(named) if not any((home / name).is_file() for home in homes)] == []


def test_every_page_is_reachable_from_readme() -> None:
    found, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        for target in re.findall(r"\]\(([^)#]+\.md)", page.read_text(encoding="utf-8")):
            if not target.startswith("http") and (other := (page.parent / target).resolve()) not in found:
                found.add(other)
                todo.append(other)
    assert {page for page in PAGES if page.parent == ROOT / "docs"} <= found


def test_readme_names_the_test_command_that_ci_runs() -> None:
    assert "\n./.ci/test\n" in README
    assert "./.ci/test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_version_is_the_newest_of_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changelog
    assert re.findall(r"^## \[(\d[^]]*)\]", changelog, re.MULTILINE)[0] == __version__
