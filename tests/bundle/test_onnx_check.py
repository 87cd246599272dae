import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper

from milvus_fghash.bundle.onnx_check import MESSAGES, check_graph
from milvus_fghash.errors import BundleError

GRAPH = (Path(__file__).parents[1] / "golden" / "bundle-v1" / "encoder.onnx").read_bytes()

PROTOS: dict[str, Any] = {
    "model": onnx.ModelProto,
    "training": onnx.TrainingInfoProto,
    "graph": onnx.GraphProto,
    "function": onnx.FunctionProto,
    "node": onnx.NodeProto,
    "attribute": onnx.AttributeProto,
    "sparse": onnx.SparseTensorProto,
    "tensor": onnx.TensorProto,
    "opset": onnx.OperatorSetIdProto,
}


@pytest.mark.parametrize("kind", PROTOS)
def test_every_way_to_a_tensor_or_an_operator_is_followed(kind: str) -> None:
    kinds = {proto.DESCRIPTOR.full_name: name for name, proto in PROTOS.items()}
    ways = {
        field.number: kinds[field.message_type.full_name]
        for field in PROTOS[kind].DESCRIPTOR.fields
        if field.message_type is not None and field.message_type.full_name in kinds
    }
    followed = {number: inner for number, inner in MESSAGES[kind].items() if inner in PROTOS}
    assert followed == ways


def test_the_numbers_of_single_fields_are_those_of_onnx() -> None:
    def number(proto: Any, name: str) -> int:
        return int(proto.DESCRIPTOR.fields_by_name[name].number)

    assert MESSAGES["tensor"][number(TensorProto, "external_data")] == "external"
    assert MESSAGES["tensor"][number(TensorProto, "data_location")] == "location"
    assert MESSAGES["node"][number(onnx.NodeProto, "domain")] == "domain"
    assert MESSAGES["opset"][number(onnx.OperatorSetIdProto, "domain")] == "domain"


def test_what_export_makes_passes() -> None:
    check_graph(GRAPH)


def _place_in_graph(graph: GraphProto, tensor: TensorProto, place: str) -> None:
    if place == "initializer":
        graph.initializer.append(tensor)
    elif place == "sparse initializer":
        graph.sparse_initializer.add().indices.CopyFrom(tensor)
    elif place == "attribute":
        graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))
    elif place == "list attribute":
        graph.node.add(op_type="If").attribute.add(type=AttributeProto.TENSORS).tensors.append(tensor)
    elif place == "subgraph":
        inner = GraphProto(name="inner")
        _place_in_graph(inner, tensor, "attribute")
        graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner))


@pytest.mark.parametrize("location_only", [False, True])
@pytest.mark.parametrize(
    "place", ["initializer", "sparse initializer", "attribute", "list attribute", "subgraph", "function", "training"]
)
def test_weights_elsewhere_are_found_in_every_place(place: str, location_only: bool) -> None:
    model = onnx.load_from_string(GRAPH)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    if not location_only:
        tensor.external_data.add(key="location", value="weights.bin")
    if place == "function":
        model.functions.add(name="f").node.append(helper.make_node("Constant", [], ["c"], value=tensor))
    elif place == "training":
        model.training_info.add().initialization.initializer.append(tensor)
    else:
        _place_in_graph(model.graph, tensor, place)
    with pytest.raises(BundleError, match="weights in another file"):
        check_graph(model.SerializeToString())


def test_weights_that_only_name_a_file_are_rejected() -> None:
    """`data_location` says inside, but a name is there: runtimes have disagreed on which counts."""
    model = onnx.load_from_string(GRAPH)
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")
    with pytest.raises(BundleError, match="weights in another file"):
        check_graph(model.SerializeToString())


@pytest.mark.parametrize(
    "add",
    [
        lambda model: model.opset_import.add(domain="com.microsoft", version=1),
        lambda model: model.graph.node.add(op_type="Attention", domain="com.microsoft"),
        lambda model: model.functions.add(name="f").opset_import.add(domain="com.microsoft", version=1),
    ],
)
def test_operators_of_others_are_rejected(add: Callable[[ModelProto], Any]) -> None:
    model = onnx.load_from_string(GRAPH)
    add(model)
    with pytest.raises(BundleError, match=r"com\.microsoft"):
        check_graph(model.SerializeToString())


def test_both_names_of_the_standard_are_taken() -> None:
    model = onnx.load_from_string(GRAPH)
    model.graph.node[0].domain = "ai.onnx"
    check_graph(model.SerializeToString())


def test_nesting_without_end_is_rejected() -> None:
    graph = GraphProto(name="innermost")
    for _ in range(25):
        graph = helper.make_graph([helper.make_node("If", ["x"], ["y"], then_branch=graph)], "g", [], [])
    model = onnx.load_from_string(GRAPH)
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=graph))
    with pytest.raises(BundleError, match="nested more than 64 levels deep"):
        check_graph(model.SerializeToString())


@pytest.mark.parametrize(
    "raw", [b"", b"not onnx", b"\x80", b"\xff" * 20, b"\x3a\x7f", b"\x3b", b"\x38\x01", b"\x3d\x00"]
)
def test_what_is_no_onnx_is_rejected(raw: bytes) -> None:
    with pytest.raises(BundleError, match="not a readable ONNX file"):
        check_graph(raw)


def test_a_field_number_beyond_32_bits_is_rejected() -> None:
    """A parser that drops the high bits would read a harmless field as another graph."""
    key = (7 << 3 | 2) | 1 << 32
    varint = bytes([key & 127 | 128, key >> 7 & 127 | 128, key >> 14 & 127 | 128, key >> 21 & 127 | 128, key >> 28])
    with pytest.raises(BundleError, match="not a readable ONNX file"):
        check_graph(GRAPH + varint + b"\x00")


def test_a_field_cut_off_at_the_end_is_rejected() -> None:
    with pytest.raises(BundleError, match="not a readable ONNX file"):
        check_graph(GRAPH + b"\x32\x7fshort")  # a doc string of 127 bytes that are not there


@given(st.integers(0, len(GRAPH) - 1), st.integers(0, 7))
def test_a_flipped_bit_never_breaks_the_reader(at: int, bit: int) -> None:
    raw = bytearray(GRAPH)
    raw[at] ^= 1 << bit
    _passes_or_is_rejected(bytes(raw))


@given(st.binary(max_size=300))
def test_any_bytes_pass_or_are_rejected(raw: bytes) -> None:
    _passes_or_is_rejected(raw)


@given(st.integers(0, len(GRAPH) - 1))
def test_a_cut_file_passes_or_is_rejected(end: int) -> None:
    _passes_or_is_rejected(GRAPH[:end])


def _passes_or_is_rejected(raw: bytes) -> None:
    try:
        check_graph(raw)
    except BundleError:
        return


def _tensor(kind: int, values: list[float], raw: bool) -> TensorProto:
    """Raw bytes, or a list of numbers."""
    tensor = helper.make_tensor("w", kind, [len(values)], values)
    if not raw:
        return tensor
    array = onnx.numpy_helper.to_array(tensor)
    return helper.make_tensor("w", kind, [len(values)], array.tobytes(), raw=True)


@pytest.mark.parametrize("place", ["initializer", "attribute", "list attribute", "subgraph"])
@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (TensorProto.FLOAT, True),
        (TensorProto.FLOAT, False),
        (TensorProto.DOUBLE, True),
        (TensorProto.DOUBLE, False),
        (TensorProto.FLOAT16, True),
        (TensorProto.BFLOAT16, True),
    ],
)
def test_weights_that_are_no_numbers_are_found_in_every_form(kind: int, raw: bool, place: str) -> None:
    for values in (
        [1.0, math.nan, 2.0],
        [1.0, math.inf],
        [math.nan],
        [1.0, -math.inf],
        [-math.inf] * 3,
        [math.inf] * 3,
    ):
        model = onnx.load_from_string(GRAPH)
        _place_in_graph(model.graph, _tensor(kind, values, raw), place)
        with pytest.raises(BundleError, match=r"'w' of the graph: \d of \d values are not finite"):
            check_graph(model.SerializeToString())


@pytest.mark.parametrize("values", [[math.inf], [-math.inf], [0.0, -math.inf, 0.0], [3.4e38, -3.4e38]])
def test_a_bound_and_a_mask_are_no_damage(values: list[float]) -> None:
    model = onnx.load_from_string(GRAPH)
    for kind, raw in ((TensorProto.FLOAT, True), (TensorProto.DOUBLE, False)):
        _place_in_graph(model.graph, _tensor(kind, values, raw), "attribute")
    check_graph(model.SerializeToString())


def test_integers_are_never_taken_for_numbers_that_are_not_finite() -> None:
    model = onnx.load_from_string(GRAPH)
    bits = np.array([0x7FC00000, 0x7F800000], np.int32)  # of float32, they would be NaN and infinity
    model.graph.initializer.append(onnx.numpy_helper.from_array(bits, "whole"))
    check_graph(model.SerializeToString())


@pytest.mark.parametrize(("name", "value"), [("value_float", math.nan), ("value_floats", [1.0, math.inf])])
def test_constants_that_are_no_numbers_are_found(name: str, value: Any) -> None:
    model = onnx.load_from_string(GRAPH)
    model.graph.node.append(helper.make_node("Constant", [], ["c"], **{name: value}))
    with pytest.raises(BundleError, match="a constant of the graph"):
        check_graph(model.SerializeToString())


def test_weights_as_single_fields_are_read_too() -> None:
    """A list of numbers in the old form: a key before each."""
    fields = b"".join(b"\x25" + np.float32(value).tobytes() for value in (1, math.nan))
    tensor = b"\x08\x02\x10\x01" + fields + b"\x42\x01w"
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    with pytest.raises(BundleError, match=r"'w' of the graph: 1 of 2 values"):
        check_graph(GRAPH + b"\x3a" + bytes([len(graph)]) + graph)
