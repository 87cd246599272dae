"""Networks of timm as bundles: a convolutional one and transformers give the codes of torch, and their maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from milvus_fghash.core.images import Preprocessing
from milvus_fghash.exporters.onnx_bundle import Origin, export_method
from milvus_fghash.methods.base import Sizes
from milvus_fghash.methods.lsh import Config, Method
from milvus_fghash.recipes.schema import HeadChoice
from milvus_fghash.training.backbones import build_backbone
from tests.helpers.onnx_graphs import run, stretched

pytestmark = pytest.mark.full

SIDE = 160
ORIGIN = Origin("lsh", "ab12", Preprocessing(size=SIDE, resize=SIDE), 3, {}, {}, "MIT")


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "test_vit3"])
def test_the_graph_gives_codes_features_and_attention_of_the_network(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(f"timm/{name}", "none").eval()
    method = Method(backbone, HeadChoice(), Sizes(24, 3, 9), Config()).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (9, SIDE, SIDE, 3), np.uint8)
    with torch.no_grad():
        images = backbone.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        maps, features = backbone.maps_and_features(images)
        method.fit(features, torch.zeros(9, dtype=torch.int64))
        expected = method(images).numpy()
    bundle = export_method(method, ORIGIN, tmp_path / "bundle", pixels=pixels, outputs=["embedding", "attention"])
    given = run(bundle.graph(), pixels)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(given["logits"], expected, atol=1e-3 * scale)
    np.testing.assert_allclose(given["embedding"], features.numpy(), atol=1e-3 * features.abs().max().item())
    if backbone.stage_outputs:  # the last layer norm of a transformer leaves a mean of zero, so its map is rounding
        heat = stretched(maps.numpy().mean(axis=1, keepdims=True))
        np.testing.assert_allclose(given["attention"], heat, atol=1e-2)
    # The network is computed once, whatever the outputs: one matrix product or convolution of each.
    graph = onnx.load_from_string(bundle.graph()).graph
    alone = export_method(method, ORIGIN, tmp_path / "alone", pixels=pixels)
    kinds = ("Conv", "Softmax", "LayerNormalization")

    def count(nodes: object) -> int:
        return sum(node.op_type in kinds for node in nodes)  # type: ignore[attr-defined]

    assert count(graph.node) == count(onnx.load_from_string(alone.graph()).graph.node)
