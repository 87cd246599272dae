"""What a graph gives, and what the network gives that it was exported from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from milvus_fghash.methods.lsh import Method

Pixels = NDArray[np.uint8]


def run(graph: bytes, pixels: Pixels) -> dict[str, NDArray[Any]]:
    session = InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": pixels}), strict=True))


def outputs_of(method: Method, pixels: Pixels) -> NDArray[np.float32]:
    """Without any code of the export: normalised by NumPy, through the method itself."""
    normalised = (pixels / 255 - np.array(method.backbone.mean)) / np.array(method.backbone.std)
    with torch.inference_mode():
        outputs: NDArray[np.float32] = method(torch.from_numpy(normalised).permute(0, 3, 1, 2).float()).numpy()
    return outputs


def stretched(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each map to [0, 1], (b, M, h, w); a constant one to 0."""
    low, high = maps.min(axis=(2, 3), keepdims=True), maps.max(axis=(2, 3), keepdims=True)
    result: NDArray[np.float32] = (maps - low) / np.where(high > low, high - low, 1)
    return result
