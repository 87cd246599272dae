"""Features of a frozen backbone by ONNX Runtime, which computes convolutional networks faster than torch on a CPU.

They differ from torch's by rounding, as those of a GPU do, so both share one cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.bounded_file import MAX_LIST_BYTES, read_bounded
from milvus_fghash.embedding_models.model import EmbeddingModel
from milvus_fghash.embedding_models.read import INPUT, OUTPUT
from milvus_fghash.errors import BundleError, ConfigError, MissingExtra
from milvus_fghash.methods.base import Backbone
from milvus_fghash.training.onnx_backbone import OnnxBackbone
from milvus_fghash.training.onnx_trace import trace
from milvus_fghash.training.sources import Embed

MIN_VIEWS: Final = 1000
"""Fewest views for which exporting the backbone, ten seconds of one core, takes less time than it saves."""
TOLERANCE: Final = 1e-3
"""By which the features of both may differ, as a share of the largest one."""


def runtime_features(
    backbone: Backbone, folder: Path, digest: str, side: int, views: int, device: torch.device
) -> Embed | None:
    """`embed` of a method that needs the pooled features only, by ONNX Runtime.

    Args:
        backbone: in any mode.
        folder: keeps the exported backbone.
        digest: of the backbone's weights.
        side: of the photos, in pixels.
        views: that are to be computed.
        device: on which torch would compute them.

    Returns:
        None where torch is to compute: on a GPU, for few views, without ONNX Runtime, or where the backbone cannot be
        exported with the same features.
    """
    if device.type != "cpu" or views < MIN_VIEWS or isinstance(backbone, OnnxBackbone):
        return None
    try:
        model = _exported(backbone, folder / f"backbone-{digest[:32]}-{side}.onnx", side)
    except (BundleError, ConfigError, MissingExtra):
        return None
    return lambda images: {"anchor": torch.from_numpy(model.features(np.ascontiguousarray(images.numpy())))}


def _exported(backbone: Backbone, file: Path, side: int) -> EmbeddingModel:
    threads = torch.get_num_threads()
    try:
        return EmbeddingModel.open(read_bounded(file, MAX_LIST_BYTES), side, threads=threads)
    except (OSError, ConfigError):  # not there yet, or not whole
        pass
    training = backbone.training
    backbone.eval()
    try:
        images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        model = EmbeddingModel.open(trace(backbone, images, INPUT, [OUTPUT]).SerializeToString(), side, threads=threads)
        with torch.no_grad():
            expected: Tensor = backbone(images)
    finally:
        backbone.train(training)
    difference = (torch.from_numpy(model.features(images.numpy())) - expected).abs().max()
    if not difference <= TOLERANCE * expected.abs().max():
        raise ConfigError("ONNX Runtime computes other features than torch")
    write_atomic(file, model.graph)
    return model
