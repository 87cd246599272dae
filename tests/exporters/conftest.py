from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from milvus_fghash.core.images import Preprocessing
from milvus_fghash.exporters.onnx_bundle import Origin
from milvus_fghash.methods.base import Backbone, Sizes
from milvus_fghash.methods.lsh import Config, Method
from milvus_fghash.recipes.schema import HeadChoice

SIZE = 32

Make = Callable[[int], Method]


class SmallBackbone(Backbone):
    """Average, convolution, batch norm: as few parts as show that each is exported."""

    n_features = 16
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 16, 4, stride=4), nn.BatchNorm2d(16), nn.ReLU())

    def maps(self, images: Tensor) -> Tensor:
        maps: Tensor = self.layers(images)
        return maps


@pytest.fixture(scope="session")
def small_method() -> Make:
    """LSH of any length on a small backbone with random weights and statistics."""

    def make(n_bits: int) -> Method:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(n_bits)
            backbone = SmallBackbone()
            backbone.layers[2].running_mean.normal_(std=0.1)  # type: ignore[operator]
            backbone.layers[2].running_var.uniform_(0.5, 2.0)  # type: ignore[operator]
            method = Method(backbone, HeadChoice(), Sizes(n_bits, n_classes=3, n_train=4), Config()).eval()
            method.fit(torch.rand(4, 16), torch.zeros(4, dtype=torch.int64))
        return method

    return make


@pytest.fixture(scope="session")
def origin() -> Origin:
    return Origin("lsh", "ab12", Preprocessing(size=SIZE, resize=40), 3, {"rounds": 1}, {"validation_map": 0.5}, "MIT")


@pytest.fixture(scope="session")
def pixels() -> NDArray[np.uint8]:
    """(9, 32, 32, 3): more than a batch, of noise."""
    return np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), np.uint8)
