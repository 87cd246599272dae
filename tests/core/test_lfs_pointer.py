"""A clone without ``git lfs pull``: every file it may have in place of the real one is told as a pointer."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from milvus_fghash.bundle.bundle import GRAPH, LEARNED, MANIFEST, read_bundle
from milvus_fghash.core.images import open_rgb
from milvus_fghash.core.lfs_pointer import reject_pointer
from milvus_fghash.datasets.layouts.matlab import read_numbers
from milvus_fghash.datasets.read import read
from milvus_fghash.dedupe.report import Duplicates
from milvus_fghash.encoding.decode_result import advice
from milvus_fghash.errors import FghashError, ImageRejected
from milvus_fghash.ingest.delete import read_ids
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.training.checkpoint import read_state, restore
from milvus_fghash.training.weights import load_weights
from tests.helpers.commands import Run

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 12345\n"
BUNDLE = Path(__file__).parents[1] / "golden" / "bundle-v1"

READERS: dict[str, Callable[[Path], object]] = {
    "list.csv": lambda file: read("table", file),
    "list.parquet": lambda file: read("table", file),
    "photos.tar": lambda file: read("archive", file),
    "photos.zip": lambda file: read("archive", file),
    "images.txt": lambda file: read("cub", _beside(file, "train_test_split.txt", "classes.txt")),
    "test_batch.bin": lambda file: read(
        "cifar10", _beside(file, *(f"data_batch_{number}.bin" for number in range(1, 6)), "batches.meta.txt")
    ),
    "train_list.mat": lambda file: read_numbers(file, "labels"),
    "weights.safetensors": lambda file: load_weights("mobilenet_v2", str(file)),
    "weights.pt": lambda file: load_weights("mobilenet_v2", str(file)),
    "checkpoint.json": lambda file: read_state(file.parent),
    "ids.txt": read_ids,
    "recipe.toml": lambda file: load_recipe(str(file)),
    "groups.json": Duplicates.read,
}


def _beside(file: Path, *names: str) -> Path:
    for name in names:
        shutil.copy(file, file.parent / name)
    if (meta := file.parent / "batches.meta.txt").exists():
        meta.write_text("".join(f"{number}\n" for number in range(10)))
    return file.parent


@pytest.mark.parametrize("name", READERS)
def test_whatever_reads_a_file_says_that_it_is_a_pointer(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(POINTER)
    with pytest.raises(FghashError, match="is a Git LFS pointer, not the file itself; run git lfs pull") as caught:
        READERS[name](file)
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize("part", [GRAPH, MANIFEST, LEARNED])
def test_each_part_of_a_bundle(part: str, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))
    (bundle / part).write_bytes(POINTER)
    with pytest.raises(FghashError, match=f"{part} is a Git LFS pointer"):
        read_bundle(bundle)


@pytest.mark.parametrize("part", ["model.safetensors", "optimizer.safetensors"])
def test_the_weights_of_a_checkpoint(part: str, tmp_path: Path) -> None:
    import torch

    (tmp_path / part).write_bytes(POINTER)
    with pytest.raises(FghashError, match=f"{part} is a Git LFS pointer"):
        restore(torch.nn.Linear(1, 1), tmp_path)


def test_photos_are_rejected_one_by_one_and_the_end_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(POINTER)
    for source in (tmp_path / "a.jpg", POINTER):
        with pytest.raises(ImageRejected, match="Git LFS pointer") as caught:
            open_rgb(source)
        assert caught.value.reason == "pointer"
    assert [line.partition(";")[0] for line in advice({"pointer": 3, "extra": 1200, "broken": 1})] == [
        "photos rejected as HEIC or AVIF: 1,200",
        "files that are Git LFS pointers: 3",
    ]


@pytest.mark.parametrize("words", [("shards build", "--out", "shards"), ("ingest", "--uri", "new.db")])
def test_a_run_says_at_its_end_what_to_do(words: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.png"):
        (tmp_path / "photos" / name).write_bytes(POINTER)
    command, *into = words
    done = run(*command.split(), BUNDLE, "photos", *into, "--workers", "0", "--json")
    assert done.exit_code == 3
    assert "files that are Git LFS pointers: 2; run git lfs pull" in done.stderr
    assert json.loads(done.stdout)["reasons"] == {"pointer": 2}


def test_other_files_are_no_pointers(tmp_path: Path) -> None:
    for number, raw in enumerate([b"", b"version 1", POINTER + b"x" * 1024, json.dumps({}).encode()]):
        file = tmp_path / str(number)
        file.write_bytes(raw)
        reject_pointer(file, FghashError)
    reject_pointer(tmp_path / "none", FghashError)
    reject_pointer(tmp_path, FghashError)
    os.mkfifo(tmp_path / "pipe")  # would wait for ever, or swallow what is in it
    reject_pointer(tmp_path / "pipe", FghashError)
