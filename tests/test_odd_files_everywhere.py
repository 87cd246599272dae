"""Wherever the project reads a file of its user's, a pipe, a device or a giant in its place is one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from milvus_fghash.bulk_import.shards.folder import Marker, ShardFolder, sha256_of
from milvus_fghash.bulk_import.shards.parquet import read_ids as ids_of_shard
from milvus_fghash.cli.options.connection import _read_token
from milvus_fghash.core.file_models import read_json
from milvus_fghash.datasets.layouts import cifar, matlab
from milvus_fghash.datasets.layouts.text_lists import read_lines
from milvus_fghash.datasets.sources.archive_index import members_of
from milvus_fghash.datasets.sources.location import PhotoLocation
from milvus_fghash.datasets.sources.reader import read_source
from milvus_fghash.dedupe.report import Duplicates
from milvus_fghash.errors import FghashError
from milvus_fghash.evaluation.record import read_evaluation
from milvus_fghash.experiments.records import Store
from milvus_fghash.ingest.delete import read_ids
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.state.run_record import photo_sources
from milvus_fghash.training.checkpoint import read_state, restore
from milvus_fghash.training.weights import by_content, load_weights
from tests.helpers.commands import Run
from tests.helpers.odd_files import endless, giant, pipe

pytestmark = pytest.mark.usefixtures("no_waiting")


@dataclass(frozen=True)
class Reader:
    """What reads a file of some name in a folder."""

    name: str
    read: Callable[[Path], object]


def _with_weights(file: Path) -> Recipe:
    return load_recipe("frozen-lsh", changes=(f'backbone.weights="{file}"',))


IN_A_FOLDER = {
    "checkpoint.json": Reader("checkpoint.json", lambda file: read_state(file.parent)),
    "weights of a checkpoint": Reader("model.safetensors", lambda file: restore(torch.nn.Linear(1, 1), file.parent)),
    "weights": Reader("w.safetensors", lambda file: load_weights("resnet50", str(file))),
    "weights by content": Reader("w.pt", lambda file: by_content(_with_weights(file))),
    "marker": Reader("shard-00000-0123456789abcdef.json", lambda file: read_json(file, Marker, "")),
    "manifest of shards": Reader("manifest.json", lambda file: ShardFolder(file.parent).manifest()),
    "shard": Reader("s.parquet", sha256_of),
    "rows of a shard": Reader("s.parquet", lambda file: list(ids_of_shard(file, 10))),
    "records": Reader("records.jsonl", lambda file: Store(file, writing=True)),
    "lines": Reader("images.txt", lambda file: list(read_lines(file))),
    "matlab": Reader("list.mat", lambda file: matlab.read_texts(file, "x")),
    "archive": Reader("photos.tar", members_of),
    "records of CIFAR-10": Reader("data_batch_1.bin", cifar._records),
    "lock of shards": Reader(".lock", lambda file: ShardFolder(file.parent).held().__enter__()),
    "photo in an archive": Reader(
        "photos.tar", lambda file: read_source(PhotoLocation(str(file), "x", revision="1 1 ", size=3), 10)
    ),
}
NAMED = {
    "recipe": Reader("r.toml", lambda file: load_recipe(str(file))),
    "token": Reader("token", _read_token),
    "ids": Reader("ids.txt", read_ids),
    "duplicates": Reader("d.json", Duplicates.read),
    "evaluation": Reader("e.json", read_evaluation),
}
READ_WHOLE = {"checkpoint.json", "marker", "manifest of shards", "matlab"}


@pytest.mark.parametrize("make", [pipe, endless])
@pytest.mark.parametrize("what", IN_A_FOLDER)
def test_only_regular_files_are_read_from_folders(tmp_path: Path, what: str, make: Callable[[Path], None]) -> None:
    reader = IN_A_FOLDER[what]
    make(tmp_path / reader.name)
    with pytest.raises(FghashError, match=r"expected a regular file|no weights file"):
        reader.read(tmp_path / reader.name)


@pytest.mark.parametrize("what", sorted(READ_WHOLE))
def test_giants_are_not_read_whole(tmp_path: Path, what: str) -> None:
    reader = IN_A_FOLDER[what]
    giant(tmp_path / reader.name)
    with pytest.raises(FghashError, match=r"it has more than the allowed [0-9,]+ bytes"):
        reader.read(tmp_path / reader.name)


@pytest.mark.parametrize("what", NAMED)
def test_what_a_person_names_is_bounded(tmp_path: Path, what: str) -> None:
    """It may be a pipe; but not larger than what is meant."""
    reader = NAMED[what]
    giant(tmp_path / reader.name)
    with pytest.raises(FghashError, match=r"it has more than the allowed [0-9,]+ bytes"):
        reader.read(tmp_path / reader.name)
    if what in ("recipe", "token"):
        endless(tmp_path / "link.toml")
        with pytest.raises(FghashError, match=r"it has more than the allowed [0-9,]+ bytes"):
            reader.read(tmp_path / "link.toml")


def test_records_of_runs_that_are_no_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    pipe(tmp_path / "runs" / "1.json")
    endless(tmp_path / "runs" / "2.json")
    (tmp_path / "runs" / "3.json").write_text(json.dumps({"source": {"photos": "here"}}))
    assert photo_sources(tmp_path) == {Path("here")}


DEEP_JSON = '{"what": ' + "[" * 900 + "]" * 900 + "}"
DEEP_TOML = f"{'.'.join(['key'] * 900)} = 1"


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("checkpoint.json", DEEP_JSON, lambda file: read_state(file.parent)),
        ("m.json", DEEP_JSON, lambda file: read_json(file, Marker, "")),
        ("d.json", DEEP_JSON, Duplicates.read),
        ("e.json", DEEP_JSON, read_evaluation),
        ("records.jsonl", f"{DEEP_JSON}\n", lambda file: Store(file, writing=False)),
        ("r.toml", DEEP_TOML, lambda file: load_recipe(str(file))),
    ],
)
def test_what_nests_deep_is_one_error(tmp_path: Path, name: str, text: str, read: Callable[[Path], Any]) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FghashError, match="nested too deeply"):
        read(tmp_path / name)


def test_settings_of_the_command_are_bounded(run: Run, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(DEEP_TOML)
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    for name, message in (
        ("settings.toml", "it is nested too deeply"),
        ("zero.toml", "it has more than the allowed 1,048,576 bytes"),
    ):
        result = run("inspect", "--config", name)
        assert result.exit_code == 1
        assert f"Error: cannot read the settings file {name}: {message}" in result.stderr


def test_inspect_says_of_a_bundle_what_is_the_matter(run: Run, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    pipe(bundle / "bundle.json")
    assert "it is a pipe; expected a regular file" in run("inspect", "bundle").stderr
    (bundle / "bundle.json").unlink()
    (bundle / "bundle.json").write_text(f'{{"format_version": 1, "training": {DEEP_JSON}}}')
    result = run("inspect", "bundle")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: bundle/bundle.json is not valid JSON: it is nested too deeply")
