"""A projection of `methods.affine` as the head of an ONNX graph; needs onnx, not torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.embedding_models.join import FEATURES, LOGITS
from milvus_fghash.methods.affine import TINY, AffineProjection

if TYPE_CHECKING:
    from onnx import ModelProto


def head_of(projection: AffineProjection, opset: int) -> ModelProto:
    """`features` (b, n_features) -> `logits` (b, n_bits), with operators of a version."""
    from onnx import TensorProto, helper, numpy_helper

    bits, width = projection.weight.shape
    axes = np.ascontiguousarray(projection.weight.T)
    constants: dict[str, NDArray[Any] | np.float32] = {"mean": projection.mean, "axes": axes}
    nodes, last = [], FEATURES
    if projection.normalise:
        constants |= {"tiny": np.float32(TINY), "columns": np.array([1])}
        nodes = [
            helper.make_node("ReduceL2", [FEATURES, "columns"], ["length"], keepdims=1),
            helper.make_node("Max", ["length", "tiny"], ["divisor"]),
            helper.make_node("Div", [FEATURES, "divisor"], ["scaled"]),
        ]
        last = "scaled"
    nodes += [
        helper.make_node("Sub", [last, "mean"], ["centred"]),
        helper.make_node("MatMul", ["centred", "axes"], [LOGITS]),
    ]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", bits])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
