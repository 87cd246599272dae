"""Checkpoints from before 0.1.0, in which the backbone was `trunk`: same codes, same fingerprint, and they go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from milvus_fghash.bundle.manifest import fingerprint
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.exporters.onnx_bundle import export
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.training.checkpoint import Checkpoint, load_checkpoint
from milvus_fghash.training.run import run_training

pytestmark = pytest.mark.full

QUICK = ("preprocessing.size=32", "preprocessing.resize=32", "training.rounds=1", "training.epochs_per_round=1")


def as_before(checkpoint: Path) -> Path:
    """The checkpoint rewritten with the keys and tensor names of before."""
    for name in ("model.safetensors", "optimizer.safetensors"):
        tensors = load_file(checkpoint / name)
        assert any(key.startswith("backbone.") for key in tensors)
        before = {
            key.replace("backbone.", "trunk.", 1).replace("head.code_utility", "head.worth"): value
            for key, value in tensors.items()
        }
        save_file(before, checkpoint / name)
    values = json.loads((checkpoint / "checkpoint.json").read_text())
    recipe = values["recipe"]
    recipe["trunk"] = recipe.pop("backbone")
    recipe["data"]["dataset"] = recipe["data"].pop("layout")
    recipe["training"]["trunk_factor"] = recipe["training"].pop("backbone_factor")
    (checkpoint / "checkpoint.json").write_text(json.dumps(values))
    return checkpoint


def logits(checkpoint: Checkpoint) -> torch.Tensor:
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        output: torch.Tensor = checkpoint.method(checkpoint.method.backbone.normalise(pixels))
    return output


@pytest.mark.parametrize("method", ["kinhash", "hashnet"])
def test_a_checkpoint_of_before_gives_the_same_codes_and_goes_on(
    method: str, drawn_birds: Dataset, tmp_path: Path
) -> None:
    recipe = load_recipe(f"demo-{method}", QUICK)
    folder = run_training(recipe, 12, drawn_birds, tmp_path / "run", device="cpu")
    now = load_checkpoint(folder)
    more = load_recipe(recipe, ["training.rounds=2"])
    before = load_checkpoint(as_before(folder))
    assert before.state == now.state
    assert torch.equal(logits(before), logits(now))
    assert len(load_checkpoint(run_training(more, 12, drawn_birds, tmp_path / "run", resume=True)).state.history) == 2


def test_the_fingerprint_of_a_network_is_over_the_names_of_before(drawn_birds: Dataset, tmp_path: Path) -> None:
    folder = run_training(load_recipe("demo-kinhash", QUICK), 12, drawn_birds, tmp_path / "run", device="cpu")
    bundle = export(as_before(folder), tmp_path / "bundle", check_count=2)
    tensors = {name: value.numpy() for name, value in load_file(folder / "model.safetensors").items()}
    manifest = bundle.manifest
    assert {"head.worth", "trunk.stages.0.0.0.weight"} <= tensors.keys()
    given = fingerprint(tensors, manifest.preprocessing, manifest.mean, manifest.std, 12)
    assert given == manifest.fingerprint
