"""An embedding model and a head -> the graph of a bundle: uint8 photos in, logits and packed codes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from milvus_fghash.bundle.onnx_check import check_graph
from milvus_fghash.core.codes import code_bytes
from milvus_fghash.embedding_models.preprocessor import Triple
from milvus_fghash.embedding_models.read import INPUT, OUTPUT

if TYPE_CHECKING:
    from onnx import ModelProto

HEAD: Final = "head/"
FEATURES, LOGITS = "features", "logits"
"""Input and output of a head."""


def opset_of(graph: bytes) -> int:
    """Version of the standard operators that a graph uses, for a head that fits it."""
    import onnx

    opsets = onnx.load_from_string(graph).opset_import
    newest: int = max(one.version for one in opsets if one.domain in ("", "ai.onnx"))
    return newest


def joined(
    backbone: bytes, head: ModelProto, mean: Triple, std: Triple, side: int, bits: int, outputs: Sequence[str], ir: int
) -> bytes:
    """One graph that normalises photos, embeds them, and gives logits and codes.

    Args:
        backbone: from `read_embedding_model`.
        head: `features` (b, n) -> `logits` (b, bits), both float32, with operators of the backbone's version.
        mean: subtracted from RGB pixels in [0, 1].
        std: by which the difference is divided.
        side: of the photos, in pixels.
        bits: length of a code.
        outputs: of "logits", "codes" and "embedding", in order.
        ir: ONNX IR version.

    Raises:
        BundleError: when the result is not allowed in a bundle.
    """
    import onnx
    from onnx import TensorProto, compose, helper, numpy_helper

    model = onnx.load_from_string(backbone)
    head = compose.add_prefix(head, HEAD)
    n_bytes = code_bytes(bits)
    constants = {
        "normalise/255": np.float32(255),
        "normalise/mean": np.array(mean, np.float32).reshape(1, 3, 1, 1),
        "normalise/std": np.array(std, np.float32).reshape(1, 3, 1, 1),
        "pack/zero": np.float32(0),
        "pack/spare": np.array([0, 0, 0, n_bytes * 8 - bits]),
        "pack/shape": np.array([-1, n_bytes, 8]),
        "pack/place_values": (2.0 ** np.arange(7, -1, -1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["normalise/float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["normalise/float"], ["normalise/channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["normalise/channels", "normalise/255"], ["normalise/unit"]),
        helper.make_node("Sub", ["normalise/unit", "normalise/mean"], ["normalise/centred"]),
        helper.make_node("Div", ["normalise/centred", "normalise/std"], [INPUT]),
        *model.graph.node,
        helper.make_node("Identity", [OUTPUT], [HEAD + FEATURES]),
        *head.graph.node,
        helper.make_node("Identity", [HEAD + LOGITS], [LOGITS]),
        helper.make_node("Greater", [LOGITS, "pack/zero"], ["pack/ones"]),
        helper.make_node("Cast", ["pack/ones"], ["pack/bits"], to=TensorProto.FLOAT),
        helper.make_node("Pad", ["pack/bits", "pack/spare", "pack/zero"], ["pack/padded"]),
        helper.make_node("Reshape", ["pack/padded", "pack/shape"], ["pack/octets"]),
        helper.make_node("MatMul", ["pack/octets", "pack/place_values"], ["pack/numbers"]),
        helper.make_node("Cast", ["pack/numbers"], ["codes"], to=TensorProto.UINT8),
    ]
    width = next(one.type.tensor_type.shape.dim[1].dim_value for one in head.graph.input)
    types = {
        "logits": (TensorProto.FLOAT, bits),
        "codes": (TensorProto.UINT8, n_bytes),
        "embedding": (TensorProto.FLOAT, width),
    }
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", side, side, 3])],
        [helper.make_tensor_value_info(name, types[name][0], ["batch", types[name][1]]) for name in outputs],
        [
            *(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()),
            *model.graph.initializer,
            *head.graph.initializer,
        ],
        sparse_initializer=model.graph.sparse_initializer,
    )
    whole = helper.make_model(
        graph, opset_imports=model.opset_import, functions=model.functions, ir_version=ir, producer_name="milvus-fghash"
    )
    raw: bytes = whole.SerializeToString(deterministic=True)
    onnx.checker.check_model(raw, full_check=True)
    check_graph(raw)
    return raw
