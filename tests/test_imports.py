"""Who may import whom: docs/architecture.md holds the table, this file holds the code to it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("milvus_fghash", "exporters") for path in (ROOT / folder).rglob("*.py"))
FILES = [path for path in FILES if "milvus_fghash/exporters" not in path.as_posix()]  # the link; read once
FILES.remove(ROOT / "milvus_fghash/__init__.py")  # names all that is public, late: tests/test_exported_members.py
FILES.remove(ROOT / "milvus_fghash/__main__.py")

ALWAYS = {"numpy", "pydantic"}
IMPORT_NAMES = {"Pillow": "PIL"}
ONLY_IN = {
    "matplotlib": {"milvus_fghash/plots.py"},
    "pi_heif": {"milvus_fghash/image_formats.py"},
    "fsspec": {"milvus_fghash/data/file_systems.py", "milvus_fghash/data/fetching.py", "milvus_fghash/bulk/upload.py"},
    "aiohttp": {"milvus_fghash/data/fetching.py", "milvus_fghash/data/http_session.py"},
    "yarl": {"milvus_fghash/data/http_session.py"},
}
"""Packages whose rows in the table say `in FILE only`."""
LIGHT = {"milvus_fghash/methods/__init__.py": {"torch"}}
"""Files whose row says `PACKAGE (not FILE)`."""
ALONE = {"milvus_fghash/explaining/trained.py": {"torch", "methods", "training"}}
"""Files that alone of their part may import these packages and parts: the rest of it works without torch."""
WITHOUT_TORCH = ("core", "data", "serving", "catalog.py", "explaining", "cli", "demo", "doctor.py")
HEAVY = {*ONLY_IN, "torch", "onnx", "onnxruntime", "pymilvus", "numpy", "pydantic", "PIL", "pyarrow", "ray", "rich"}
"""What `--help` must not load."""


@dataclass(frozen=True)
class Row:
    """One line of the table. ``late``: imports of other parts stand inside functions."""

    parts: frozenset[str]
    packages: frozenset[str]
    late: bool


def words(cell: str) -> list[str]:
    """Names in a cell, without remarks: 'Pillow; matplotlib in `plots.py` only' -> Pillow, matplotlib."""
    cell = re.sub(r"\([^)]*\)", "", cell)
    return [name.split()[0].strip("`/") for name in re.split("[,;]", cell) if name.strip()]


def read_table() -> dict[str, Row]:
    lines = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| part |")) + 2
    cells: dict[str, tuple[str, str]] = {}
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        names, ours, packages = (cell.strip() for cell in line.strip("|").split("|"))
        cells |= dict.fromkeys(words(names), (ours, packages))
    return {
        name: Row(
            parts=frozenset(cells) if ours.startswith("everything") else frozenset(words(ours)),
            packages=frozenset(IMPORT_NAMES.get(package, package) for package in words(packages)),
            late="inside" in ours,
        )
        for name, (ours, packages) in cells.items()
    }


TABLE = read_table()


def part_of(module: str) -> str:
    """`milvus_fghash.serving.search` -> serving; a plain file has a row of its own, or belongs to core."""
    second = [*module.split("."), ""][1]
    return next((name for name in (second, f"{second}.py") if name in TABLE), "core")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    named = parts if parts[0] == "milvus_fghash" else ("milvus_fghash", *parts)
    return ".".join(named).removesuffix(".__init__")


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules named by import statements and by `import_module("...")`, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            assert node.module
            # `from milvus_fghash import metrics` names a module too
            whole = node.module == "milvus_fghash"
            yield from (f"{node.module}.{alias.name}" if whole else node.module for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))


def at_start(tree: ast.Module) -> Iterator[str]:
    """Modules that are loaded as soon as the file is: not in functions, not for type checkers only."""
    for node in tree.body:
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not for_types and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from imported(node)


def test_the_table_names_every_folder() -> None:
    folders = {
        module_of(path).split(".")[1] for path in FILES if path.parent.parent != ROOT or "exporters" in str(path)
    }
    folders = {name for name in folders if (ROOT / "milvus_fghash" / name).is_dir()} - {"recipes"}
    assert folders | {"core", "catalog.py", "doctor.py"} == set(TABLE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    relative, module = path.relative_to(ROOT).as_posix(), module_of(path)
    own, row = part_of(module), TABLE[part_of(module)]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name in imported(tree):
        top = name.partition(".")[0]
        if top == "milvus_fghash":
            assert part_of(name) in row.parts, f"{relative} ({own}) must not import {name}"
        elif top not in sys.stdlib_module_names:
            assert top in ALWAYS | row.packages or row.late, f"{relative} ({own}) must not import {top}"
            assert relative in ONLY_IN.get(top, {relative}), f"{top} belongs into {ONLY_IN[top]} only"
            assert top not in LIGHT.get(relative, set()), f"{relative} must stay free of {top}"
        for file, rest in ALONE.items():
            alike = own == part_of(module_of(ROOT / file)) and relative != file
            assert not alike or not {top, part_of(name)} & rest, f"{relative}: {name} belongs into {file} only"
    if row.late:
        for name in at_start(tree):
            top = name.partition(".")[0]
            ours = top == "milvus_fghash" and part_of(name) in {own, "core"}
            assert ours or top in sys.stdlib_module_names or top in row.packages, f"{relative}: import {name} late"


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_serving_and_command_line_start_without_torch() -> None:
    files = [path for path in FILES if path.relative_to(ROOT).as_posix() not in ALONE]
    modules = [module_of(path) for path in files if part_of(module_of(path)) in WITHOUT_TORCH]
    modules.append("milvus_fghash.methods")
    probe = f"""
import importlib, json, sys, traceback
sys.modules.update(dict.fromkeys(["torch", "torchvision", "onnx"]))
failed = {{}}
for name in {modules!r}:
    try:
        importlib.import_module(name)
    except Exception:
        failed[name] = traceback.format_exc()
print(json.dumps(failed))
"""
    assert json.loads(run_python(probe)) == {}


def test_help_loads_nothing_heavy() -> None:
    probe = f"""
import sys
from click.testing import CliRunner
from milvus_fghash.cli import main

def walk(command, words):
    result = CliRunner().invoke(main, [*words, "--help"])
    assert result.exit_code == 0, (words, result.output)
    for name, inner in getattr(command, "commands", {{}}).items():
        walk(inner, [*words, name])

walk(main, [])
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert run_python(probe).strip() == "[]"


def test_the_folder_cannot_be_imported_by_its_bare_name() -> None:
    done = subprocess.run([sys.executable, "-c", "import exporters"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "milvus_fghash.exporters" in done.stderr
