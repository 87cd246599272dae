"""The road on a slice of real photos with a pretrained backbone: CUB-200-2011's official layout, eight classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from milvus_fghash.cli import main
from milvus_fghash.datasets.layouts import cub
from tests.helpers.commands import release_databases

CLASSES, TRAIN, TEST = 8, 10, 6

pytestmark = pytest.mark.photos


@pytest.fixture(scope="module")
def slice_of_birds(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first photos of the first classes, in the same layout."""
    root, whole = tmp_path_factory.mktemp("CUB"), cub.read(photos / "CUB_100")
    kept: list[int] = []
    for label in whole.classes[:CLASSES]:
        for split, wanted in (("train", TRAIN), ("test", TEST)):
            rows = [r for r in range(len(whole)) if whole.labels[r] == label and whole.splits[r] == split]
            kept += rows[:wanted]
    lines: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": [], "classes": []}
    for number, row in enumerate(kept, start=1):
        path = Path(whole.paths[row]).relative_to("images")
        (root / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(whole.file(row), root / "images" / path)
        lines["images"].append(f"{number} {path.as_posix()}")
        lines["image_class_labels"].append(f"{number} {whole.classes.index(whole.labels[row]) + 1}")
        lines["train_test_split"].append(f"{number} {int(whole.splits[row] == 'train')}")
    lines["classes"] = [f"{number} {label}" for number, label in enumerate(whole.classes[:CLASSES], start=1)]
    for name, content in lines.items():
        (root / f"{name}.txt").write_text("\n".join(content) + "\n")
    return root


def run(*words: str) -> Any:
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_learned_codes_find_birds_better_than_random_planes(
    slice_of_birds: Path, imagenet_weights: Path, tmp_path: Path
) -> None:
    quality = {}
    first_class = min((slice_of_birds / "images").iterdir())
    for method in ("fcaenet", "lsh"):
        run("train", f"frozen-{method}", "--bits", "48", "--data", str(slice_of_birds), "--out", str(tmp_path / method),
            "--weights", str(imagenet_weights), "--set", "training.rounds=8", "--set", "training.learning_rate=0.0003",
            "--set", "training.drop_at=[6]", "--set", "backbone.views=1", "--device", "cpu",
            "--feature-cache", str(tmp_path / "features"))  # fmt: skip
        run("export", str(tmp_path / method), "--out", str(tmp_path / f"{method}-bundle"),
            "--check-images", str(first_class))  # fmt: skip
        manifest = json.loads((tmp_path / f"{method}-bundle" / "bundle.json").read_text())
        assert manifest["mean"] == [0.5, 0.5, 0.5]  # the weights file says how its network wants photos
        assert manifest["flip_rate"] <= 1e-3
        database = ("--uri", str(tmp_path / f"{method}.db"), "--collection-name", "birds")
        stored = run("ingest", str(tmp_path / f"{method}-bundle"), str(slice_of_birds), "--split", "train", *database)
        assert stored["rows_in_collection"] == CLASSES * TRAIN
        record = run("evaluate", str(tmp_path / f"{method}-bundle"), "--data", str(slice_of_birds), *database)
        quality[method] = record["encoded"]["map_exact"]
    release_databases(tmp_path)
    assert quality["lsh"] > 0.2  # chance is 1/8: pretrained features alone tell some birds apart
    assert quality["fcaenet"] > 1.3 * quality["lsh"]
