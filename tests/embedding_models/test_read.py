"""ONNX embedding models of several forms give the embedding that NumPy computes; other files are one clear sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from milvus_fghash.embedding_models.model import EmbeddingModel
from milvus_fghash.embedding_models.read import metadata_of, read_embedding_model
from milvus_fghash.errors import ConfigError
from tests.helpers.small_embedding import SIDE, WIDTH, tokens_of, write_model

PHOTOS = np.random.default_rng(0).standard_normal((3, 3, SIDE, SIDE), np.float32)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ({}, {}),
        ({"opset": 20}, {}),
        ({"opset": 13}, {}),
        ({"half": True}, {}),
        ({"channels_last": True}, {}),
        ({"kind": "maps"}, {}),
        ({"kind": "tokens"}, {"pooling": "mean"}),
        ({"name": "pooler_output", "more_outputs": ["last_hidden_state"]}, {}),
        ({"more_outputs": ["hidden"]}, {}),
        ({"kind": "maps", "more_outputs": ["hidden"]}, {"output": "hidden", "pooling": "mean"}),
        ({"side": "any"}, {}),
    ],
)
def test_every_form_gives_the_mean_of_the_patches(tmp_path: Path, form: Any, options: Any) -> None:
    model = EmbeddingModel.open(read_embedding_model(write_model(tmp_path / "model.onnx", **form), **options))
    assert (model.n_features, model.side) == (WIDTH, None if form.get("side") else SIDE)
    expected = tokens_of(PHOTOS).mean(axis=1)
    features = model.features(PHOTOS)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=1e-2 if form.get("half") else 1e-5)
    np.testing.assert_allclose(model.features(PHOTOS[1:2]), features[1:2], atol=1e-5)


def test_the_class_token_is_the_first(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx", "tokens")
    model = EmbeddingModel.open(read_embedding_model(path, pooling="class-token"))
    np.testing.assert_allclose(model.features(PHOTOS), tokens_of(PHOTOS)[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        ({"kind": "tokens"}, {}, "holds a row for each token; say whether the class token or the mean"),
        ({"more_outputs": ["x"], "kind": "tokens"}, {}, "has the outputs out, x; say which one"),
        ({}, {"output": "ou"}, "has no output 'ou'. Did you mean out"),
        ({"more_inputs": ["text"]}, {}, "has the inputs pixels with 4 axes, text with 2 axes; expected one"),
        ({"domain": "com.microsoft"}, {}, "cannot be part of a bundle.*com.microsoft"),
    ],
)
def test_what_is_no_embedding_model_is_told(tmp_path: Path, form: Any, options: Any, message: str) -> None:
    path = write_model(tmp_path / "model.onnx", **form)
    with pytest.raises(ConfigError, match=message):
        read_embedding_model(path, **options)


def test_no_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no ONNX file"):
        read_embedding_model(tmp_path / "absent.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    (tmp_path / "model.json").write_text('{"size": 3}')  # onnx reads files of this name as JSON, and names its fields
    with pytest.raises(ConfigError, match=r"model\.json is not a readable ONNX file: Error parsing message"):
        read_embedding_model(tmp_path / "model.json")
    with pytest.raises(ConfigError, match="not a readable ONNX file"):
        read_embedding_model(tmp_path / "broken.onnx")


def test_photos_of_another_size_are_rejected(tmp_path: Path) -> None:
    graph = read_embedding_model(write_model(tmp_path / "model.onnx"))
    with pytest.raises(ConfigError, match="takes photos of 32 x 32 pixels, not 64"):
        EmbeddingModel.open(graph, 64)


def test_the_metadata_of_the_file_are_read(tmp_path: Path) -> None:
    metadata = {"mean": "0.5,0.4,0.3", "std": "1,1,2"}
    assert metadata_of(write_model(tmp_path / "with.onnx", metadata=metadata)) == metadata
    assert metadata_of(write_model(tmp_path / "without.onnx")) == {}
