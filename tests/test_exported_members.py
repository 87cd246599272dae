"""What `import milvus_fghash` offers: the list, for people and type checkers alike, and that it costs nothing."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import milvus_fghash

SOURCE = Path(milvus_fghash.__file__).read_text(encoding="utf-8")
PUBLIC = [
    "AddResult",
    "Advice",
    "AliasChange",
    "AliasClient",
    "Bundle",
    "BundleError",
    "Catalog",
    "CodeError",
    "CollectionSettings",
    "ConfigError",
    "ConnectionConfig",
    "DATASETS",
    "DataError",
    "Dataset",
    "DecodeOptions",
    "Deletion",
    "Duplicates",
    "Encoded",
    "Encoder",
    "Evaluation",
    "FghashError",
    "Finding",
    "HashCollection",
    "Hit",
    "ImageRejected",
    "ImportOptions",
    "ImportResult",
    "Inconsistent",
    "IngestOptions",
    "IngestResult",
    "MissingExtra",
    "NotFinite",
    "RayOptions",
    "Recipe",
    "Reindexed",
    "Rejected",
    "RepairResult",
    "RetryPolicy",
    "Row",
    "Rows",
    "Sample",
    "SearchParams",
    "SearchResult",
    "Selection",
    "ShardOptions",
    "ShardsResult",
    "Stopped",
    "StoreBusy",
    "StoreError",
    "TooManyDeleted",
    "TrainingError",
    "Url",
    "Verification",
    "Watcher",
    "__version__",
    "advise",
    "all_of",
    "build_shards",
    "export",
    "import_shards",
    "load_recipe",
    "read_bundle",
    "read_dataset",
    "recipe_names",
    "train",
    "wrap",
]
"""A name that comes or goes is a change of the public interface: it belongs into CHANGELOG.md."""


def test_the_public_names() -> None:
    assert sorted(milvus_fghash.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(milvus_fghash, name)
    assert name in dir(milvus_fghash)
    if callable(value):
        assert value.__doc__, name


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isfunction(getattr(milvus_fghash, name))])
def test_from_the_third_on_parameters_of_functions_are_named(name: str) -> None:
    parameters = inspect.signature(getattr(milvus_fghash, name)).parameters.values()
    assert [one.name for one in parameters if one.kind is not inspect.Parameter.KEYWORD_ONLY][2:] == []


def test_type_checkers_see_the_same_names() -> None:
    (block,) = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    seen = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == {name: milvus_fghash._MODULE_OF[name] for name in PUBLIC if name != "__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        milvus_fghash.serach  # noqa: B018
    with pytest.raises(ImportError):
        importlib.import_module("milvus_fghash.serach")


def test_the_import_loads_no_package() -> None:
    code = "import sys; before = set(sys.modules); import milvus_fghash; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    outside = {name.partition(".")[0] for name in done.stdout.split()} - set(sys.stdlib_module_names)
    assert outside == {"milvus_fghash"}


def test_a_name_that_needs_torch_says_how_to_install_it() -> None:
    probe = "import sys; sys.modules['torch'] = None; import milvus_fghash as fg; fg.train"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert "MissingExtra: this needs torch, which is not installed" in done.stderr
    assert "pip install 'milvus-fghash[train]'" in done.stderr
