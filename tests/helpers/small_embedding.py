"""A small ONNX embedding model in the forms that exporters give it: patches of 8 pixels, times a random matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE, PATCH, WIDTH = 32, 8, 24

Kind = Literal["flat", "maps", "tokens"]


def weights() -> NDArray[np.float32]:
    """(WIDTH, 3, PATCH, PATCH): the model's only weights."""
    return np.random.default_rng(5).standard_normal((WIDTH, 3, PATCH, PATCH)).astype(np.float32)


def tokens_of(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """(b, 3, SIDE, SIDE) -> (b, n, WIDTH), by NumPy: the patches in reading order."""
    across = SIDE // PATCH
    patches = images.reshape(len(images), 3, across, PATCH, across, PATCH).transpose(0, 2, 4, 1, 3, 5)
    products = patches.reshape(len(images), across**2, -1) @ weights().reshape(WIDTH, -1).T
    result: NDArray[np.float32] = np.tanh(products)
    return result


def write_model(
    path: Path,
    kind: Kind = "flat",
    *,
    half: bool = False,
    channels_last: bool = False,
    batch: str | int = "n",
    side: int | str = SIDE,
    opset: int = 17,
    more_inputs: Sequence[str] = (),
    more_outputs: Sequence[str] = (),
    name: str = "out",
    metadata: dict[str, str] | None = None,
    domain: str = "",
) -> Path:
    """Write the model; ``more_outputs`` are copies of its tokens."""
    number = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    filters = weights().astype(np.float16 if half else np.float32)
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["channels"], perm=[0, 3, 1, 2])
        if channels_last
        else helper.make_node("Identity", ["pixels"], ["channels"]),
        helper.make_node("Conv", ["channels", "filters"], ["products"], strides=[PATCH, PATCH]),
        helper.make_node("Tanh", ["products"], ["maps"]),
        helper.make_node("Flatten" if batch == 0 else "Reshape", ["maps", "rows"], ["by channel"]),
        helper.make_node("Transpose", ["by channel"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["tokens"], ["flat"], axes=[1], keepdims=0)
        if opset < 18
        else helper.make_node("ReduceMean", ["tokens", "first axis"], ["flat"], keepdims=0),
        helper.make_node("Identity", [kind], [name], domain=domain),
        *(helper.make_node("Identity", ["tokens"], [one]) for one in more_outputs),
    ]
    axes: dict[str, list[Any]] = {"flat": [WIDTH], "maps": [WIDTH, None, None], "tokens": [None, WIDTH]}
    photos = [batch, side, side, 3] if channels_last else [batch, 3, side, side]
    constants = {"filters": filters, "rows": np.array([0, WIDTH, -1])}
    if opset >= 18:
        constants["first axis"] = np.array([1])
    graph = helper.make_graph(
        nodes,
        "model",
        [
            helper.make_tensor_value_info("pixels", number, photos),
            *(helper.make_tensor_value_info(one, TensorProto.INT64, [batch, 7]) for one in more_inputs),
        ],
        [
            helper.make_tensor_value_info(name, number, [batch, *axes[kind]]),
            *(helper.make_tensor_value_info(one, number, [batch, *axes["tokens"]]) for one in more_outputs),
        ],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, metadata or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path
