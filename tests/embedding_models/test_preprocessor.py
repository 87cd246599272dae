"""`preprocessor_config.json` of models on the hub, each worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from milvus_fghash.core.images import Preprocessing
from milvus_fghash.embedding_models.preprocessor import ModelInput, find_preprocessor, read_preprocessor
from milvus_fghash.errors import ConfigError

HALF = (0.5, 0.5, 0.5)
VIT: dict[str, Any] = {"do_normalize": True, "do_resize": True, "image_mean": HALF, "image_std": HALF, "resample": 2}
CLIP: dict[str, Any] = {
    "crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
    "do_rescale": True, "do_resize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 3,
    "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 256},
}  # fmt: skip


def written(folder: Path, values: Any) -> Path:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({**VIT, "size": 224}, ModelInput(Preprocessing(size=224, resize=224, resize_mode="stretch"), HALF, HALF)),
        (
            {**VIT, "size": {"height": 384, "width": 384}},
            ModelInput(Preprocessing(size=384, resize=384, resize_mode="stretch"), HALF, HALF),
        ),
        (
            CLIP,
            ModelInput(Preprocessing(size=224, resize=256, interpolation="bicubic"), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        ),
        # ConvNeXt: the shorter side to 224 / 0.875, then the centre crop.
        ({**VIT, "size": {"shortest_edge": 224}, "crop_pct": 0.875}, ModelInput(Preprocessing(), HALF, HALF)),
        # Pixels 0 to 255: (p - 127) / 128 is (p / 255 - 127 / 255) / (128 / 255).
        (
            {**VIT, "size": 64, "do_rescale": False, "image_mean": [127] * 3, "image_std": [128] * 3},
            ModelInput(Preprocessing(size=64, resize=64, resize_mode="stretch"), (127 / 255,) * 3, (128 / 255,) * 3),
        ),
        (
            {**VIT, "size": 64, "do_normalize": False},
            ModelInput(Preprocessing(size=64, resize=64, resize_mode="stretch"), (0.0,) * 3, (1.0,) * 3),
        ),
    ],
)
def test_worked_by_hand(tmp_path: Path, values: dict[str, Any], expected: ModelInput) -> None:
    got = read_preprocessor(written(tmp_path, values))
    assert got.preprocessing == expected.preprocessing
    assert (*got.mean, *got.std) == pytest.approx((*expected.mean, *expected.std))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**VIT, "size": 224, "resample": 1}, "resample is 1, and only 2"),
        ({**VIT, "size": {"height": 224, "width": 192}}, "192 x 224 pixels, and only squares"),
        ({**CLIP, "crop_size": {"height": 224, "width": 192}}, "crops photos to 192 x 224"),
        ({**VIT, "do_resize": False}, "does not resize"),
        ({**VIT, "size": 224, "image_std": [1, 1]}, "three numbers"),
        (VIT, "size"),
        ([], "no JSON object"),
    ],
)
def test_what_is_not_supported_is_told(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"cannot be used: .*{message}.*Give size, resize, mean and std instead"):
        read_preprocessor(written(tmp_path, values))


def test_it_is_found_beside_the_model_or_one_folder_above(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    for model in (tmp_path / "model.onnx", tmp_path / "onnx" / "model.onnx"):
        assert find_preprocessor(model) is None
    path = written(tmp_path, CLIP)
    for model in (tmp_path / "model.onnx", tmp_path / "onnx" / "model.onnx"):
        assert find_preprocessor(model) == path
    with pytest.raises(ConfigError, match="cannot read"):
        read_preprocessor(tmp_path / "absent.json")
