"""An ONNX file as frozen backbone: trained, resumed, exported as one graph with the same codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from milvus_fghash.core.codes import pack
from milvus_fghash.core.images import load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError, TrainingError
from milvus_fghash.exporters.onnx_bundle import export
from milvus_fghash.methods import ON_FEATURES_ALONE
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.training.api import train
from milvus_fghash.training.backbones import with_own_preprocessing
from milvus_fghash.training.checkpoint import load_checkpoint
from milvus_fghash.training.onnx_backbone import OnnxBackbone
from tests.helpers.small_embedding import SIDE, tokens_of, write_model

pytestmark = pytest.mark.full

CHANGES = ("backbone.name=onnx", "backbone.views=1", "training.rounds=2", "training.epochs_per_round=1",
           "training.batch_size=8")  # fmt: skip
CONFIG = {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": SIDE, "resample": 3,
          "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.5, 0.6]}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = write_model(tmp_path / "model" / "model.onnx", metadata={"licence": "MIT"})
    (path.parent / "preprocessor_config.json").write_text(json.dumps(CONFIG))
    return path


@pytest.mark.parametrize("method", ["itq", "kinhash"])
def test_it_trains_and_its_bundle_gives_the_codes_of_the_checkpoint(
    method: str, model: Path, drawn_birds: Dataset, tmp_path: Path
) -> None:
    changes = (*CHANGES, *ON_FEATURES_ALONE.get(method, ()))
    train(f"frozen-{method}", drawn_birds, out=tmp_path / "run", bits=12, weights=model, changes=changes)
    model.unlink()  # the checkpoint contains it
    checkpoint = load_checkpoint(tmp_path / "run")
    backbone = checkpoint.method.backbone
    assert isinstance(backbone, OnnxBackbone)
    assert (backbone.mean, backbone.std, backbone.licence) == ((0.5, 0.4, 0.3), (0.5, 0.5, 0.6), "MIT")
    preprocessing = checkpoint.state.recipe.preprocessing
    assert (preprocessing.size, preprocessing.resize, preprocessing.interpolation) == (SIDE, 40, "bicubic")
    pixels = np.stack([load(drawn_birds.file(row), preprocessing) for row in range(9)])
    images = ((pixels / 255 - np.array([0.5, 0.4, 0.3])) / np.array([0.5, 0.5, 0.6])).transpose(0, 3, 1, 2)
    features = tokens_of(images.astype(np.float32)).mean(axis=1)
    with torch.no_grad():
        logits = checkpoint.method.head(torch.from_numpy(features)).numpy()
    bundle = export(tmp_path / "run", tmp_path / "bundle", outputs=["embedding"])
    codes, embedding = Encoder.open(bundle.path).run(pixels, "embedding")
    np.testing.assert_allclose(embedding, features, atol=1e-5)
    clear = np.abs(logits) > 1e-3
    differing = np.unpackbits(codes, axis=1)[:, :12] != np.unpackbits(pack(logits), axis=1)[:, :12]
    assert clear.mean() > 0.5
    assert not (differing & clear).any()
    assert bundle.manifest.opset == 18
    assert bundle.manifest.weights_licence == "MIT"


def test_a_resumed_training_equals_an_uninterrupted_one(model: Path, drawn_birds: Dataset, tmp_path: Path) -> None:
    def run(out: str, rounds: int, resume: bool = False) -> dict[str, torch.Tensor]:
        changes = (*CHANGES, f"training.rounds={rounds}", "training.schedule=steps", "training.drop_at=[]")
        train("frozen-orthohash", drawn_birds, out=tmp_path / out, bits=12, weights=model, changes=changes,
              resume=resume)  # fmt: skip
        return load_checkpoint(tmp_path / out).method.state_dict()

    whole = run("whole", 2)
    run("parts", 1)
    for name, value in run("parts", 2, resume=True).items():
        assert torch.equal(value, whole[name]), name


def test_what_needs_maps_or_gradients_is_rejected(model: Path, drawn_birds: Dataset, tmp_path: Path) -> None:
    def run(recipe: str, *changes: str) -> None:
        train(recipe, drawn_birds, out=tmp_path / "run", bits=12, weights=model, changes=[*CHANGES, *changes])

    with pytest.raises(ConfigError, match=r"onnx cannot be trained; set backbone\.frozen=true"):
        run("frozen-itq", "backbone.frozen=false")
    with pytest.raises(ConfigError, match="gives pooled features and no maps"):
        run("frozen-fcaenet")
    with pytest.raises(ConfigError, match=r"takes photos of 32 x 32 pixels, not 64; set preprocessing.size=32"):
        run("frozen-itq", "preprocessing.size=64")
    with pytest.raises(ConfigError, match="no ONNX file 'imagenet'"):
        train("frozen-itq", drawn_birds, out=tmp_path / "run", bits=12, changes=CHANGES)
    (model.parent / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match="nothing says how photos are normalised"):
        run("frozen-itq", f"preprocessing.size={SIDE}", f"preprocessing.resize={SIDE}")
    given = ("backbone.mean=[0,0,0]", "backbone.std=[1,1,1]", f"preprocessing.size={SIDE}", "preprocessing.resize=40")
    run("frozen-itq", *given)
    assert load_checkpoint(tmp_path / "run").method.backbone.std == (1, 1, 1)


def test_an_export_of_maps_is_rejected(model: Path, drawn_birds: Dataset, tmp_path: Path) -> None:
    train("frozen-lsh", drawn_birds, out=tmp_path / "run", bits=12, weights=model, changes=CHANGES)
    with pytest.raises(ConfigError, match="no maps, which this method or output needs"):
        export(tmp_path / "run", tmp_path / "bundle", outputs=["attention"])


def test_a_checkpoint_without_the_file_is_one_sentence(model: Path, drawn_birds: Dataset, tmp_path: Path) -> None:
    checkpoint = train("frozen-lsh", drawn_birds, out=tmp_path / "run", bits=12, weights=model, changes=CHANGES)
    (checkpoint / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="cannot be used"):
        load_checkpoint(checkpoint)


def test_what_the_recipe_does_not_say_is_the_models_preprocessing(model: Path) -> None:
    recipe = load_recipe("frozen-itq", ["backbone.name=onnx", f"backbone.weights='{model}'"])
    assert with_own_preprocessing(recipe).preprocessing.resize == 40
    assert recipe.preprocessing.resize == 256
