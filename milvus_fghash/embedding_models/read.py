"""An ONNX embedding model of any exporter -> one form: `pixel_values` (b, 3, h, w) -> `embedding` (b, n), both float32.

Needs the package onnx, which is imported late: whoever only runs such a model does not need it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from milvus_fghash.bundle.onnx_check import check_graph
from milvus_fghash.core.bounded_file import check_regular
from milvus_fghash.core.lfs_pointer import reject_pointer
from milvus_fghash.errors import BundleError, ConfigError, nearest, one_line, optional_extra

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

INPUT, OUTPUT = "pixel_values", "embedding"
PREFIX: Final = "backbone/"
"""Beginning of all names inside the model, so that they differ from those of a head."""
FORM: Final = "form/"
"""Beginning of the names that the one form adds."""
OPSET: Final = 18
"""Oldest version of the operators that is kept; older models are converted to it."""
USUAL_OUTPUTS: Final = ("embedding", "embeddings", "image_embeds", "image_embeddings", "pooler_output", "features")

Pooling = Literal["class-token", "mean"]


def read_embedding_model(path: Path, output: str | None = None, pooling: Pooling | None = None) -> bytes:
    """Read an ONNX embedding model.

    Args:
        path: the ONNX file; weights in further files beside it are taken in.
        output: name of the output that holds the embedding. Default: the only one, or one with a usual name.
        pooling: what to take of an output of tokens, (b, n, c): the first one, or the mean of all.

    Returns:
        The model in the one form, as one file.

    Raises:
        ConfigError: when it cannot be read, or is not an embedding model of photos.
        MissingExtra: when onnx is not installed.
    """
    with optional_extra("onnx"):
        import onnx
    if not path.is_file():
        raise ConfigError(f"no ONNX file {str(path)!r}; check the path")
    reject_pointer(path, ConfigError)
    check_regular(path)
    try:
        model = onnx.load(path, format="protobuf")  # whatever its name ends in
    except Exception as error:  # of protobuf and of onnx: they have no common class
        raise ConfigError(f"{path} is not a readable ONNX file: {one_line(error)}. Export the model again") from None
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if version < OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:  # RuntimeError of C++ and others
            raise ConfigError(
                f"{path} uses ONNX operators of version {version}, which cannot be converted to version {OPSET} "
                f"({one_line(error)}). Export the model with version {OPSET} or later"
            ) from None
    graph: bytes = _in_one_form(model, path, output, pooling).SerializeToString(deterministic=True)
    try:
        check_graph(graph)
    except BundleError as error:
        raise ConfigError(f"{path} cannot be part of a bundle: {error}") from None
    return graph


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a readable ONNX file; here `mean`, `std` ("r,g,b") and `licence` count."""
    with optional_extra("onnx"):
        import onnx
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


def _in_one_form(model: ModelProto, path: Path, output: str | None, pooling: Pooling | None) -> ModelProto:
    from onnx import TensorProto, compose, helper

    weights = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        found = ", ".join(f"{one.name} with {len(one.type.tensor_type.shape.dim)} axes" for one in inputs)
        raise ConfigError(
            f"{path} has the inputs {found or 'none'}; expected one, of photos with four axes. Of a model of images "
            "and text, export the image part alone"
        )
    kind, name = inputs[0].type.tensor_type.elem_type, PREFIX + inputs[0].name
    sides = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
    channels_last = sides[3] == 3 and sides[1] != 3
    if kind not in (TensorProto.FLOAT, TensorProto.FLOAT16) or (sides[1] not in (0, 3) and not channels_last):
        raise ConfigError(
            f"the input {inputs[0].name} of {path} is {TensorProto.DataType.Name(kind)} of shape {sides}; expected "
            "FLOAT or FLOAT16 of shape (batch, 3, height, width) or (batch, height, width, 3)"
        )
    chosen = _chosen_output(model, path, output)
    model = compose.add_prefix(model, PREFIX)
    before: list[NodeProto] = []
    last = INPUT
    if kind == TensorProto.FLOAT16:
        before.append(helper.make_node("Cast", [last], [f"{FORM}half"], to=TensorProto.FLOAT16))
        last = f"{FORM}half"
    before.append(
        helper.make_node("Transpose", [last], [name], perm=[0, 2, 3, 1])
        if channels_last
        else helper.make_node("Identity", [last], [name])
    )
    after, constants = _pooled(PREFIX + chosen.name, len(chosen.type.tensor_type.shape.dim), path, pooling)
    height, width = (sides[1], sides[2]) if channels_last else (sides[2], sides[3])
    photos = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, height or "height", width or "width"])
    graph = helper.make_graph(
        [*before, *model.graph.node, *after],
        "backbone",
        [photos],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", None])],
        [*model.graph.initializer, *constants],
        sparse_initializer=model.graph.sparse_initializer,
    )
    opsets = [one for one in model.opset_import if one.domain in ("", "ai.onnx")]
    return helper.make_model(
        graph,
        opset_imports=[*opsets, *(one for one in model.opset_import if one not in opsets)],
        functions=model.functions,
        ir_version=model.ir_version,
    )


def _chosen_output(model: ModelProto, path: Path, output: str | None) -> Any:
    outputs = {one.name: one for one in model.graph.output}
    if output is not None:
        if output not in outputs:
            raise ConfigError(f"{path} has no output {output!r}. {nearest(output, outputs)}", setting="output")
        return outputs[output]
    flat = [one for one in outputs.values() if len(one.type.tensor_type.shape.dim) == 2]
    usual = [outputs[name] for name in USUAL_OUTPUTS if name in outputs]
    for candidates in (list(outputs.values()), usual[:1], flat):
        if len(candidates) == 1:
            return candidates[0]
    raise ConfigError(f"{path} has the outputs {', '.join(outputs)}; say which one is the embedding", setting="output")


def _pooled(name: str, axes: int, path: Path, pooling: Pooling | None) -> tuple[list[NodeProto], list[Any]]:
    """Nodes and constants from an output of the model to a flat `embedding` of float32."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    flat, constants = f"{FORM}flat", []
    if axes == 2:
        node = helper.make_node("Identity", [name], [flat])
    elif axes == 4 or (axes == 3 and pooling == "mean"):
        constants = [numpy_helper.from_array(np.arange(2 if axes == 4 else 1, axes - (axes == 3)), f"{FORM}axes")]
        node = helper.make_node("ReduceMean", [name, f"{FORM}axes"], [flat], keepdims=0)
    elif axes == 3 and pooling == "class-token":
        constants = [numpy_helper.from_array(np.array(0), f"{FORM}first")]
        node = helper.make_node("Gather", [name, f"{FORM}first"], [flat], axis=1)
    elif axes == 3:
        raise ConfigError(
            f"the output {name.removeprefix(PREFIX)} of {path} holds a row for each token; say whether the class token "
            "or the mean of all is the embedding",
            setting="pooling",
        )
    else:
        raise ConfigError(
            f"the output {name.removeprefix(PREFIX)} of {path} has {axes} axes; expected (batch, features), or tokens "
            "or maps to pool. Choose another output",
            setting="output",
        )
    return [node, helper.make_node("Cast", [flat], [OUTPUT], to=TensorProto.FLOAT)], constants
