"""EfficientNet-Lite2 as a network of timm and as an ONNX file: the same codes of real photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from milvus_fghash.core.images import load
from milvus_fghash.datasets.read import read
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.exporters.onnx_bundle import export
from milvus_fghash.training.api import train
from milvus_fghash.training.checkpoint import load_checkpoint
from milvus_fghash.wrapping.api import wrap

pytestmark = [pytest.mark.full, pytest.mark.extras, pytest.mark.photos]

BITS = 256
PLAIN = {"size": 224, "resize": 224, "resize_mode": "stretch", "interpolation": "bicubic"}
MOST = {"lsh": 1e-3, "itq": 0.05}
"""Method -> share of the bits that may differ. ITQ is fitted once for each way, and its iterations amplify what the
features differ by in the seventh digit, the more the fewer photos there are."""


def both(photos: Path, weights: Path, folder: Path, count: int, method: str, *, exported: bool) -> float:
    """The share of bits that differ between the two ways; with ``exported`` also the bundle of timm's is compared."""
    dataset = read("cub", photos / "CUB_100")
    dataset = dataset.take(np.random.default_rng(0).permutation(len(dataset))[:count])
    changes = ["backbone.name='timm/tf_efficientnet_lite2'", "preprocessing.size=224"]
    changes.append("preprocessing.resize_mode=stretch")  # bicubic is timm's
    file = weights / "efficientnet_lite2_imagenet"
    checkpoint = train(f"frozen-{method}", dataset, out=folder / "run", bits=BITS, weights=f"{file}.safetensors",
                       changes=changes)  # fmt: skip
    bundle = wrap(f"{file}.onnx", dataset, out=folder / "onnx", method=method, bits=BITS, mean=[127 / 255] * 3,
                  std=[128 / 255] * 3, preprocessing=PLAIN)  # fmt: skip
    network = load_checkpoint(checkpoint)
    assert network.state.recipe.preprocessing == bundle.manifest.preprocessing
    pixels = np.stack([load(dataset.file(row), bundle.manifest.preprocessing) for row in range(count)])
    codes = Encoder.open(bundle.path).encode_pixels(pixels)
    if exported:
        other = export(checkpoint, folder / "timm")
        expected = Encoder.open(other.path).encode_pixels(pixels)
    else:
        with torch.inference_mode():
            images = network.method.backbone.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
            expected = np.packbits(network.method(images).numpy() > 0, axis=1)
    return float(np.mean(np.unpackbits(codes, axis=1) != np.unpackbits(expected, axis=1)))


def test_the_network_and_the_file_give_the_same_codes(photos: Path, shared_weights: Path, tmp_path: Path) -> None:
    assert both(photos, shared_weights, tmp_path, 32, "lsh", exported=False) <= MOST["lsh"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lsh", "itq"])
def test_both_bundles_give_the_same_codes(method: str, photos: Path, shared_weights: Path, tmp_path: Path) -> None:
    assert both(photos, shared_weights, tmp_path, 400, method, exported=True) <= MOST[method]
