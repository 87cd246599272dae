"""The wheel holds the package, each file once, and nothing else; its metadata say what README says."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("milvus_fghash", "exporters", "pyproject.toml", "README.md", "LICENSE")

EXTRAS = {
    "cpu": {"onnxruntime"},
    "gpu": {"onnxruntime-gpu"},
    "lite": {"milvus-lite", "setuptools"},
    "train": {"torch", "torchvision", "safetensors", "onnx", "onnxscript"},
    "timm": {"milvus-fghash[train]", "timm"},
    "onnx": {"onnx"},
    "tensorboard": {"tensorboard"},
    "plot": {"matplotlib"},
    "parquet": {"pyarrow"},
    "heif": {"pi-heif", "Pillow"},
    "http": {"fsspec", "aiohttp", "yarl"},
    "s3": {"s3fs", "aiobotocore", "boto3"},
    "gcs": {"gcsfs"},
    "ray": {"ray[data]", "pyarrow"},
    "all": {"milvus-fghash[cpu,lite,train,timm,onnx,tensorboard,plot,parquet,heif,http,s3]"},
}
INSIDE = {".py", ".toml", ".typed", ".html", ".css"}
BASE = {"numpy", "Pillow", "pydantic", "pymilvus", "click", "rich", "tomli-w", "Jinja2"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy: a build leaves folders behind that do not belong into a checkout."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def facts(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


def test_few_files_pass_four_hundred_lines() -> None:
    """Rule 1 of CONTRIBUTING.md. The exceptions hold one idea each; catalog.py is mostly docstrings."""
    folders = ("milvus_fghash", "exporters", "tests", "integration_tests", "benchmarks")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 200
    long = {file.name for file in files if len(file.read_text(encoding="utf-8").splitlines()) > 400}
    code = {"catalog.py", "collection.py", "rows.py", "encoder.py", "journal.py"}
    assert long <= code


def test_each_source_file_is_in_the_wheel_once(wheel: zipfile.ZipFile) -> None:
    inside = [name for name in wheel.namelist() if ".dist-info/" not in name]
    package = [path for path in (ROOT / "milvus_fghash").rglob("*") if path.suffix in INSIDE]
    package += (ROOT / "milvus_fghash/demo/bundle").iterdir()
    wanted = {path.relative_to(ROOT).as_posix() for path in package}
    wanted |= {f"milvus_fghash/exporters/{path.name}" for path in (ROOT / "exporters").glob("*.py")}
    wanted.add("milvus_fghash/py.typed")
    assert sorted(inside) == sorted(wanted)


def test_nothing_claims_the_bare_name_exporters(wheel: zipfile.ZipFile) -> None:
    assert {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == {"milvus_fghash"}


def test_licence_and_entry_point_are_inside(wheel: zipfile.ZipFile) -> None:
    information = {name.partition(".dist-info/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert wheel.read(information["licenses/LICENSE"]) == (ROOT / "LICENSE").read_bytes()
    assert "milvus-fghash = milvus_fghash.cli:main" in wheel.read(information["entry_points.txt"]).decode()


def test_the_licence_is_the_whole_of_apache_2(facts: Message) -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert facts["License-Expression"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_extras_are_those_of_the_table() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements: list[str]) -> set[str]:
        return {requirement.partition("<")[0].partition(">")[0] for requirement in requirements}

    optional = {
        name: names(wanted) for name, wanted in project["optional-dependencies"].items() if name not in {"dev", "docs"}
    }
    assert optional == EXTRAS
    assert names(project["dependencies"]) == BASE


def test_each_extra_is_documented() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    missing = [extra for extra in EXTRAS if f"| `[{extra}]` |" not in page]
    assert missing == []
