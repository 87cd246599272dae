"""Who may import whom: one order of folders, no circles, and serving without torch."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("milvus_fghash", "exporters") for path in (ROOT / folder).rglob("*.py"))
FILES = [path for path in FILES if "milvus_fghash/exporters" not in path.as_posix()]  # the link; read once
FILES.remove(ROOT / "milvus_fghash/__init__.py")  # names all that is public, late: tests/test_exported_members.py
FILES.remove(ROOT / "milvus_fghash/__main__.py")

ORDER = (
    ("core",),
    ("recipes", "datasets"),
    ("bundle", "methods", "milvus"),
    ("encoding",),
    ("embedding_models",),
    ("state", "search"),
    ("ingest", "evaluation"),
    ("dedupe", "migration", "bulk_import", "training"),
    ("exporters", "explain", "experiments", "advice"),
    ("wrapping",),
    ("catalog",),
    ("demo", "doctor"),
    ("cli",),
)
"""A folder imports from rows above its own and from itself. errors.py and _version.py belong to core."""

PACKAGES = {
    "core": {"PIL", "onnxruntime", "pi_heif", "jinja2", "markupsafe"},
    "datasets": {"PIL", "pyarrow", "fsspec", "aiohttp", "yarl"},
    "methods": {"torch"},
    "milvus": {"pymilvus", "grpc", "milvus_lite"},
    "encoding": {"PIL", "onnxruntime"},
    "embedding_models": {"onnx", "onnxruntime"},
    "search": {"PIL"},
    "evaluation": {"matplotlib", "onnxruntime"},
    "dedupe": {"PIL"},
    "bulk_import": {"pyarrow", "grpc", "ray", "fsspec"},
    "training": {"PIL", "torch", "torchvision", "timm", "safetensors", "tensorboard", "onnx"},
    "exporters": {"torch", "onnx", "onnxruntime"},
    "explain": {"PIL", "torch"},
    "experiments": {"torch"},
    "advice": {"torch"},
    "wrapping": {"onnx"},
    "demo": {"PIL"},
    "cli": {"click", "rich", "tomli_w"},
}
"""What a folder may import beside the standard library, numpy and pydantic. doctor.py looks at all of them."""
IMPORTED_IN = {
    "torch": {"milvus_fghash/explain/checkpoint_model.py"},
    "pymilvus": {"milvus_fghash/milvus/pymilvus_compat.py"},
    "matplotlib": {"milvus_fghash/evaluation/plots.py"},
    "pi_heif": {"milvus_fghash/core/image_formats.py"},
    "fsspec": {
        "milvus_fghash/datasets/sources/file_systems.py",
        "milvus_fghash/datasets/sources/fetch.py",
        "milvus_fghash/bulk_import/upload.py",
    },
    "jinja2": {"milvus_fghash/core/html.py"},
    "aiohttp": {"milvus_fghash/datasets/sources/fetch.py", "milvus_fghash/datasets/sources/http_session.py"},
    "yarl": {"milvus_fghash/datasets/sources/http_session.py"},
    "timm": {"milvus_fghash/training/timm_backbone.py"},
}
"""Packages that a few files of a folder keep from the others; of torch, those of `explain`."""
WITH_TORCH = {"methods", "training", "exporters", "experiments", "advice"}
HEAVY = {*IMPORTED_IN, "torch", "onnx", "onnxruntime", "pymilvus", "numpy", "pydantic", "PIL", "pyarrow", "ray", "rich"}
"""What `--help` must not load."""

LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def folder_of(module: str) -> str:
    """`milvus_fghash.search.search` -> search; errors and _version belong to core."""
    second = [*module.split("."), ""][1]
    return second if second in LEVEL else "core"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    named = parts if parts[0] == "milvus_fghash" else ("milvus_fghash", *parts)
    return ".".join(named).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules named by import statements and by `import_module("...")`, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            assert node.module
            for alias in node.names:  # `from milvus_fghash.core import codes` names a module
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))


def at_start(tree: ast.Module) -> Iterator[str]:
    """Modules that are loaded as soon as the file is: not in functions, not for type checkers only."""
    for node in tree.body:
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not for_types and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from imported(node)


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """The names of a circle, in order; none where there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_the_order_names_every_folder() -> None:
    assert set(LEVEL) == {folder_of(module) for module in MODULES}
    folders = {path.name for path in (ROOT / "milvus_fghash").iterdir() if (path / "__init__.py").is_file()}
    assert folders <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    relative, own = path.relative_to(ROOT).as_posix(), folder_of(module_of(path))
    for name in imported(tree_of(path)):
        top = name.partition(".")[0]
        if top == "milvus_fghash":
            other = folder_of(name)
            assert other == own or LEVEL[other] < LEVEL[own], f"{relative} ({own}) must not import {name}"
        elif top not in sys.stdlib_module_names and own != "doctor":
            allowed = {"numpy", "pydantic"} | PACKAGES.get(own, set())
            assert top in allowed, f"{relative} ({own}) must not import {top}"
            free = top == "torch" and own != "explain"
            assert free or relative in IMPORTED_IN.get(top, {relative}), f"{top} belongs into {IMPORTED_IN[top]} only"
    if own in {"cli", "doctor"}:  # `--help` and `doctor` load what they need late
        for name in at_start(tree_of(path)):
            top = name.partition(".")[0]
            ours = top == "milvus_fghash" and folder_of(name) in {own, "core"}
            assert ours or top in sys.stdlib_module_names or top in PACKAGES["cli"], f"{relative}: import {name} late"


def test_the_methods_start_without_torch() -> None:
    assert "torch" not in set(imported(tree_of(ROOT / "milvus_fghash/methods/__init__.py")))


def test_there_is_no_circle_of_files() -> None:
    edges = {name: {other for other in imported(tree_of(path)) if other in MODULES} for name, path in MODULES.items()}
    assert circle({name: others - {name} for name, others in edges.items()}) == []


def test_there_is_no_circle_of_folders() -> None:
    edges: dict[str, set[str]] = {name: set() for name in LEVEL}
    for name, path in MODULES.items():
        own = folder_of(name)
        edges[own] |= {folder_of(other) for other in imported(tree_of(path)) if other in MODULES} - {own}
    assert circle(edges) == []


def test_a_circle_would_be_found() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


TESTS = [path for folder in ("tests", "integration_tests") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_imports_from_another_test(path: Path) -> None:
    """What tests share is in tests/helpers/, or beside the tests of integration_tests/."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = [*node.module.split("."), *(alias.name for alias in node.names)]
            of_tests = parts[0] in {"tests", "integration_tests"}
            assert not (of_tests and any(part == "conftest" or part.startswith("test_") for part in parts)), node.module


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_but_training_starts_without_torch() -> None:
    with_torch = {module_of(ROOT / file) for file in IMPORTED_IN["torch"]}
    modules = [name for name in MODULES if folder_of(name) not in WITH_TORCH and name not in with_torch]
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
