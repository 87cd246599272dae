"""The command `advise` on drawn photos; what it recommends is trained, and gives the measured figure."""

from __future__ import annotations

import html
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from milvus_fghash.cli import main
from milvus_fghash.datasets.read import read_dataset
from milvus_fghash.datasets.synthetic.drawings import draw_birds
from milvus_fghash.evaluation.quality import code_quality
from milvus_fghash.training.checkpoint import load_checkpoint
from milvus_fghash.training.feature_cache import dataset_features
from milvus_fghash.training.on_features import encode_features

pytestmark = pytest.mark.full


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "birds"
    draw_birds(folder, classes=4, train_per_class=12, test_per_class=8, size=48)
    return folder


ENCODER = ("--encoder", "tiny", "--weights", "none")


def test_what_is_recommended_gives_the_figure_when_it_is_trained(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page, cache = tmp_path / "advice.html", tmp_path / "features"
    given = (
        "--seed",
        "3",
        "--exclude",
        "*.none",
        "--set",
        "preprocessing.resize_mode='stretch'",
        "--feature-cache",
        str(cache),
        "--html",
        str(page),
        "--json",
    )
    done = run("advise", str(photos), *ENCODER, "--minutes", "0.03", *given)
    assert done.exit_code == 0, done.output
    advice = json.loads(done.stdout)
    survey, chosen = advice["survey"], advice["recommendation"]
    assert (survey["photos"], survey["classes"], survey["sampled"]) == (80, 4, 80)
    assert chosen["low"] <= chosen["value"] <= chosen["high"]
    words = shlex.split(advice["command"])
    shown = re.sub("<wbr>|\u200b", "", html.unescape(page.read_text()))
    assert chosen["sentence"] in shown
    assert advice["command"] in shown
    assert words[words.index("--exclude") + 1] == "*.none"
    assert words[0] == "milvus-fghash"
    trained = run(*words[1:])
    assert trained.exit_code == 0, trained.output
    checkpoint = load_checkpoint(tmp_path / words[words.index("--out") + 1])
    test, recipe = read_dataset(photos).split("test"), checkpoint.state.recipe
    features = dataset_features(checkpoint.method, test, recipe, cache, torch.device("cpu"), centre_crop_only=True)
    codes, classes = encode_features(checkpoint.method, features), test.label_numbers(test.classes)
    found = code_quality(codes, classes, codes, classes, chosen["bits"], np.arange(len(test)))
    (measured,) = [
        cell["quality"]["map"]
        for cell in advice["cells"]
        if [cell[key] for key in ("method", "bits", "protocol")] == [chosen["method"], chosen["bits"], "B"]
    ]
    assert found.map == pytest.approx(measured)


def test_photos_without_labels(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, photo in enumerate(sorted(photos.rglob("*.jpg"))):
        (folder / f"{number}.jpg").write_bytes(photo.read_bytes())
    done = run("advise", str(folder), *ENCODER, "--minutes", "0.03", "--feature-cache", str(tmp_path / "features"))
    assert done.exit_code == 0, done.output
    assert "no photo has a class" in done.stdout
    assert "milvus-fghash train frozen-" in done.stdout
