"""`wrap`: an ONNX embedding model becomes a bundle, without torch for itq and lsh, and by `train` for others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from milvus_fghash.cli import main
from milvus_fghash.core.images import Preprocessing, load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import BundleError, CodeError, ConfigError
from milvus_fghash.methods.affine import AffineProjection, ItqConfig, fit_itq
from milvus_fghash.wrapping.api import wrap
from milvus_fghash.wrapping.head import head_of
from tests.helpers.small_embedding import SIDE, tokens_of, write_model

MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.5, 0.6)


def features_of(dataset: Dataset, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """The embeddings of all photos, by NumPy alone."""
    pixels = np.stack([load(dataset.file(row), preprocessing) for row in range(len(dataset))])
    images = ((pixels / 255 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    features: NDArray[np.float32] = tokens_of(images.astype(np.float32)).mean(axis=1)
    return features


def test_codes_are_those_of_itq_on_the_embeddings(drawn_birds: Dataset, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx", half=False)
    bundle = wrap(model, drawn_birds, out=tmp_path / "bundle", bits=12, mean=MEAN, std=STD, licence="MIT")
    manifest = bundle.manifest
    # Plain resizing to the size of the model where nothing says otherwise; fitted on the training photos.
    assert manifest.preprocessing == Preprocessing(size=SIDE, resize=SIDE, resize_mode="stretch")
    assert (manifest.method, manifest.bits, manifest.weights_licence) == ("itq", 12, "MIT")
    assert manifest.training["photos"] == 24
    assert manifest.mean == pytest.approx(MEAN)
    features = features_of(drawn_birds, manifest.preprocessing)
    train = [row for row, split in enumerate(drawn_birds.splits) if split == "train"]
    # The options are those of the recipe, with which `train` fits ITQ.
    expected = fit_itq(features[train], 12, ItqConfig(normalise=True)).logits(features)
    pixels = np.stack([load(drawn_birds.file(row), manifest.preprocessing) for row in range(36)])
    codes, logits, embedding = Encoder.open(bundle.path).run(pixels, "logits", "embedding")
    np.testing.assert_allclose(embedding, features, atol=1e-5)
    np.testing.assert_allclose(logits, expected, atol=1e-3 * np.abs(expected).max())
    assert codes.shape == (36, 2)


@pytest.mark.parametrize("normalise", [False, True])
def test_the_head_in_onnx_is_the_projection(normalise: bool) -> None:
    from onnx.reference import ReferenceEvaluator

    random = np.random.default_rng(0)
    projection = AffineProjection.of(random.standard_normal(7), random.standard_normal((12, 7)), normalise)
    features = random.standard_normal((5, 7)).astype(np.float32)
    features[3] = 0
    head = head_of(projection, 18)
    onnx.checker.check_model(head, full_check=True)
    results: Any = ReferenceEvaluator(head).run(None, {"features": features})
    np.testing.assert_allclose(results[0], projection.logits(features), rtol=1e-4, atol=1e-5)


def test_the_command_works_where_torch_is_not_installed(birds: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model" / "onnx" / "model.onnx", "tokens", channels_last=True)
    config = {"size": 40, "do_center_crop": True, "crop_size": SIDE, "image_mean": MEAN, "image_std": STD}
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(config))
    (birds / "train" / "broken.jpg").write_bytes(b"no photo")
    words = ["wrap", str(model), "--data", str(birds), "--layout", "folder", "--pooling", "mean", "--method", "lsh",
             "--bits", "16", "--out", str(tmp_path / "bundle"), "--interpolation", "bicubic", "--workers", "0",
             "--json"]  # fmt: skip
    probe = f"""
import sys
sys.modules.update(dict.fromkeys(["torch", "torchvision", "timm"]))
from milvus_fghash.cli import main
main({words!r})
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["method"], result["bits"]) == ("lsh", 16)
    assert result["photos"] >= 24
    manifest = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    assert manifest["preprocessing"]["resize"] == 40
    assert manifest["preprocessing"]["interpolation"] == "bicubic"


@pytest.mark.full
@pytest.mark.extras
@pytest.mark.parametrize("method", ["kinhash", "sh"])
def test_other_methods_are_trained_on_the_frozen_model(method: str, drawn_birds: Dataset, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx")
    bundle = wrap(model, drawn_birds, out=tmp_path / "bundle", method=method, bits=12, mean=MEAN, std=STD,
                  licence="MIT", preprocessing={"size": SIDE, "resize": 40, "resize_mode": "shorter_side"})  # fmt: skip
    manifest = bundle.manifest
    assert (manifest.method, manifest.weights_licence, manifest.training["photos"]) == (method, "MIT", 24)
    assert manifest.preprocessing == Preprocessing(size=SIDE, resize=40)
    assert manifest.mean == pytest.approx(MEAN)
    pixels = np.stack([load(drawn_birds.file(row), manifest.preprocessing) for row in range(4)])
    _, embedding = Encoder.open(bundle.path).run(pixels, "embedding")
    np.testing.assert_allclose(embedding, features_of(drawn_birds.take(range(4)), manifest.preprocessing), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing says how photos are normalised"),
        ({"mean": MEAN, "std": (0, 1, 1)}, "std must be above 0"),
        ({"mean": MEAN, "std": (1, 1)}, "three numbers"),
        ({"mean": MEAN, "std": STD, "preprocessing": {"size": 64}}, "takes photos of 32 x 32 pixels, not 64"),
        ({"mean": MEAN, "std": STD, "preprocessing": {"interpolation": "cubic"}}, "cannot be used: .*interpolation"),
        ({"mean": MEAN, "std": STD, "method": "semicon"}, "an ONNX embedding model gives none"),
        ({"mean": MEAN, "std": STD, "method": "it"}, "no method named 'it'"),
        ({"mean": MEAN, "std": STD, "bits": 4}, "a code of 4 bits is not supported"),
    ],
)
def test_wrong_input_is_one_clear_sentence(
    options: dict[str, Any], message: str, drawn_birds: Dataset, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model.onnx")
    with pytest.raises((CodeError, ConfigError), match=message):
        wrap(model, drawn_birds, out=tmp_path / "bundle", **options)
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_among_the_photos_is_rejected(birds: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match="lies among the photos"):
        wrap(model, birds, out=birds / "bundle", mean=MEAN, std=STD)
    assert not (birds / "bundle").exists()


def test_a_taken_folder_is_told_at_once_and_options_are_named(birds: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(BundleError, match="exists"):
        wrap(tmp_path / "absent.onnx", birds, out=tmp_path / "taken")
    model = write_model(tmp_path / "model.onnx")
    words = ["wrap", str(model), "--data", str(birds), "--out", str(tmp_path / "bundle")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert "(--mean, --std, --preprocessor)" in result.stderr
    result = CliRunner().invoke(main, [*words, "--mean", "0.5,x", "--std", "1"])
    assert result.exit_code == 2
    assert "neither a number nor three numbers" in result.stderr
