"""Graphs that give no numbers or no end: what is put into the small encoder's graph for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.helpers.bundle_parts import change_part

Fault = Callable[[ModelProto], object]


def change_graph(bundle: Path, fault: Fault) -> Path:
    """As an attacker would: the graph and its SHA-256 in the manifest."""
    model = onnx.load_from_string((bundle / "encoder.onnx").read_bytes())
    fault(model)
    change_part(bundle, "encoder.onnx", model.SerializeToString())
    return bundle


def weights(model: ModelProto) -> TensorProto:
    """The matrix of the small encoder."""
    return next(tensor for tensor in model.graph.initializer if tensor.name == "directions")  # type: ignore[no-any-return]


def set_weights(model: ModelProto, value: float) -> None:
    tensor = weights(model)
    tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), value), tensor.name))


def divide_by_brightness(model: ModelProto) -> None:
    """Logits of a black photo become infinite; all others stay what they are, but for their size."""
    _insert(model, "logits", [helper.make_node("Div", ["raw", "brightness"], ["logits"])])


def divide_embedding_by_brightness(model: ModelProto) -> None:
    """The same for the embedding; the logits stay as they are."""
    _insert(model, "embedding", [helper.make_node("Div", ["raw", "brightness"], ["embedding"])])
    next(node for node in model.graph.node if "logits" in node.output).input[0] = "raw"


def never_end_on_black(model: ModelProto) -> None:
    """A loop whose condition is that a photo of the batch is black."""
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "black"))
    _insert(
        model,
        "logits",
        [
            helper.make_node("ReduceMin", ["brightness"], ["darkest"], keepdims=0),
            helper.make_node("Equal", ["darkest", "black"], ["is_black"]),
            helper.make_node("Loop", ["", "is_black", "raw"], ["logits"], body=_again()),
        ],
    )


def swap_signs(model: ModelProto) -> None:
    """Codes are what the logits are not."""
    node = next(node for node in model.graph.node if node.op_type == "Greater")
    node.op_type = "Less"


def _insert(model: ModelProto, name: str, nodes: list[onnx.NodeProto]) -> None:
    """What gave ``name`` gives `raw`; ``nodes`` make it of that and of `brightness`, (b, 1)."""
    at = next(place for place, node in enumerate(model.graph.node) if name in node.output)
    model.graph.node[at].output[0] = "raw"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "across"))
    brightness = helper.make_node("ReduceMean", ["colour", "across"], ["brightness"])
    after = list(model.graph.node[at + 1 :])
    del model.graph.node[at + 1 :]
    model.graph.node.extend([brightness, *nodes, *after])


def _again() -> onnx.GraphProto:
    """The body of a loop that changes nothing, its condition included."""
    return helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["value"], ["same"])],
        "again",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("same", TensorProto.FLOAT, None),
        ],
    )
