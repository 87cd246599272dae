"""A torch module -> an ONNX model for batches of any size, by torch's exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from milvus_fghash.errors import BundleError

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET: Final = 18


def trace(module: nn.Module, example: Tensor, takes: str, gives: Sequence[str], opset: int = OPSET) -> ModelProto:
    """A module as an ONNX model without any path of this machine.

    Args:
        module: in evaluation mode.
        example: its input, with two rows.
        takes: name of its input.
        gives: names of its outputs.
        opset: version of the ONNX operators.

    Raises:
        BundleError: when torch cannot export it with operators of this version.
    """
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                module,
                (example,),
                input_names=[takes],
                output_names=list(gives),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        if any(isinstance(one, KeyboardInterrupt) for one in _behind(error)):  # the exporter wraps it
            raise KeyboardInterrupt from None
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise BundleError(f"torch cannot export this method to ONNX operators of version {opset}: {reason}") from error
    assert program is not None
    model: ModelProto = program.model_proto
    _forget_the_machine(model)
    made = {entry.version for entry in model.opset_import}
    if made != {opset}:  # torch falls back to another version where it cannot convert
        raise BundleError(f"torch exports this method to ONNX operators of version {max(made)}, not {opset}")
    return model


def _behind(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes."""
    waiting: list[BaseException] = [error]
    met: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one) not in met:
            met.add(id(one))
            yield one
            waiting += [source for source in (one.__cause__, one.__context__) if source]


def _forget_the_machine(message: Any) -> None:
    """Remove the call stacks that torch records at every node, because they contain local paths."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None and field.name != "initializer":
            for inner in value if isinstance(value, Sequence) or hasattr(value, "add") else [value]:
                _forget_the_machine(inner)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the progress output and internal warnings of torch and onnxscript."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logging.disable(disabled)
