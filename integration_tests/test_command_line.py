"""The way from photos to hits as a user takes it: one command after the other, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from milvus_fghash.cli import main
from milvus_fghash.datasets.synthetic.drawings import draw_birds

PROGRAM = Path(sys.executable).parent / "milvus-fghash"
SHORT = ("--set", "training.rounds=2", "--set", "training.epochs_per_round=1", "--set", "preprocessing.size=64",
         "--set", "preprocessing.resize=64")  # fmt: skip


@dataclass(frozen=True)
class Road:
    """A folder with `birds`, in which commands run."""

    folder: Path

    def run(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **(env or {})}
        return subprocess.run(
            [PROGRAM, *words], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )

    def json(self, *words: str, env: dict[str, str] | None = None) -> Any:
        """The one document a command prints; nothing else may be on stdout."""
        done = self.run(*words, "--json", env=env)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    """Trained and exported: `bundle` lies beside `birds` (6 classes, 48 train and 18 test drawings)."""
    here = Road(tmp_path_factory.mktemp("road"))
    draw_birds(here.folder / "birds", classes=6, train_per_class=8, test_per_class=3, size=64, seed=1)
    here.json("train", "demo-fcaenet", "--bits", "12", "--data", "birds", "--out", "runs/a", *SHORT)
    exported = here.json(
        "export", "runs/a", "--out", "bundle", "--check-images", "birds", "--extra-output", "embedding"
    )
    assert exported["flip_rate"] <= 0.001
    assert exported["outputs"] == ["logits", "codes", "embedding"]
    return here


def walk(road: Road, milvus: dict[str, str], collection: str, *index: str) -> None:
    """Ingest, search and evaluate, and leave nothing behind."""
    name = ("--collection-name", collection)
    for stored, unchanged in ((66, 0), (0, 66)):  # the second time adds nothing
        counts = road.json("ingest", "bundle", "birds", *name, *index, "--consistency", "Strong", env=milvus)
        assert (counts["stored"], counts["unchanged"]) == (stored, unchanged)
        assert (counts["rejected"], counts["rows_in_collection"]) == (0, 66)
    photo = min((road.folder / "birds" / "test").glob("*/*.jpg")).relative_to(road.folder)
    page = ("--html", f"{collection}.html", "--photos", "birds")
    (answer,) = road.json("search", "bundle", "--image", str(photo), "-k", "66", *name, *page, env=milvus)
    at_zero = [hit["path"] for hit in answer["hits"] if hit["distance"] == 0]
    assert photo.relative_to("birds").as_posix() in at_zero
    words = ["evaluate", "bundle", "--data", "birds", "--query-split", "test"]
    stored = road.json(*words, *name, "--filter", 'meta["split"] == "train"', env=milvus)["encoded"]
    plain = road.json(*words)["encoded"]
    assert stored["map_exact"] == plain["map_exact"]
    assert road.run("collections", "drop", collection, "--yes", env=milvus).returncode == 0
    assert collection not in [one["name"] for one in road.json("collections", "list", env=milvus)]


def test_with_milvus_lite(road: Road) -> None:
    walk(road, {"MILVUS_URI": "milvus.db"}, "birds")


def test_with_a_server(road: Road, server_uri: str, new_name: str) -> None:
    milvus = {"MILVUS_URI": server_uri}
    if token := os.environ.get("MILVUS_TEST_TOKEN"):
        milvus["MILVUS_TOKEN"] = token
    assert road.json("doctor", env=milvus)["healthy"]
    walk(road, milvus, new_name, "--index", "bin_ivf_flat", "--nlist", "1")


def test_learned_and_encoded_galleries_stand_side_by_side(road: Road) -> None:
    result = road.json("evaluate", "bundle", "--data", "birds", "--out", "result.json", "--plots", "plots")
    assert (result["encoded"]["gallery"], result["learned"]["gallery"]) == ("encoded", "learned")
    assert json.loads((road.folder / "result.json").read_text()) == result
    assert len(list((road.folder / "plots").glob("*.png"))) == 4


def test_a_checkpoint_can_be_inspected(road: Road) -> None:
    facts = road.json("inspect", "runs/a")
    assert (facts["kind"], facts["bits"], facts["classes"], facts["rounds"]) == ("checkpoint", 12, 6, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "demo-lsh", "--data", "birds", "--out", "x", "--set", "method.name='lhs'"], "Did you mean lsh?"),
        (
            ["train", "demo-fcaenet", "--data", "birds", "--out", "x", "--weights", "gone.safetensors"],
            "gone.safetensors",
        ),
        (["train", "demo-fcaenet", "--data", "birds", "--out", "x", "--device", "cuda:99"], "cuda:99"),
        (["export", "birds", "--out", "y"], "no checkpoint in birds"),
        (["export", "runs/a", "--out", "bundle"], "bundle"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(road: Road, words: list[str], message: str) -> None:
    with contextlib.chdir(road.folder):
        done = CliRunner().invoke(main, words)
    assert done.exit_code == 1, done.stderr
    *stages, error = done.stderr.splitlines()
    assert error.startswith("Error: ")
    assert message in error
    assert all(line.startswith(("66 photos in birds", "training: ")) for line in stages)
    assert not (road.folder / "x" / "checkpoints").exists()
    assert not (road.folder / "y").exists()
