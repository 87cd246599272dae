"""A method -> one ONNX file: pixels in, logits and packed codes out."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from milvus_fghash.bundle.onnx_check import check_graph
from milvus_fghash.core.codes import code_bytes
from milvus_fghash.errors import BundleError, ConfigError, nearest
from milvus_fghash.methods.base import HashMethod
from milvus_fghash.methods.erasing import attention

OPSET: Final = 18
IR_VERSION: Final = 10
OLDEST_IR_VERSION: Final = 8
"""The version that introduced operators of version 18."""
ALWAYS = ("logits", "codes")
ON_REQUEST = ("embedding", "attention")


def output_names(requested: Sequence[str]) -> tuple[str, ...]:
    """Names of the graph's outputs, in order: logits and codes, then the requested ones.

    Raises:
        ConfigError: when one is not known.
    """
    for name in requested:
        if name not in ALWAYS + ON_REQUEST:
            raise ConfigError(f"the graph has no output {name!r}. {nearest(name, ALWAYS + ON_REQUEST)}")
    return tuple(dict.fromkeys((*ALWAYS, *requested)))


class ExportedEncoder(nn.Module):
    """Pixels to codes in one graph.

    Input: `images` (b, h, w, 3) uint8, red, green, blue. Outputs, those that `outputs` names, in its order:

    * `logits` (b, n_bits) float32: of the method, before thresholding
    * `codes` (b, n_bytes) uint8: packed as `milvus_fghash.core.codes.pack` does
    * `embedding` (b, n_features) float32: pooled features of the backbone
    * `attention` (b, M, h', w') float32: the method's own `attentions`, each map stretched to [0, 1]

    The method is copied to the CPU, in evaluation mode; the caller's is not changed.
    """

    place_values: Tensor

    def __init__(self, method: HashMethod, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.method = copy.deepcopy(method).cpu().float().eval()
        self.bits, self.outputs = method.sizes.n_bits, outputs
        # Cached, so that the maps are computed once in the graph, whatever its outputs.
        self.method.backbone.maps = functools.lru_cache(maxsize=1)(self.method.backbone.maps)  # type: ignore[method-assign]
        self.register_buffer("place_values", 2.0 ** torch.arange(7, -1, -1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        backbone = self.method.backbone
        normalised = backbone.normalise(images.permute(0, 3, 1, 2))
        logits: Tensor = self.method(normalised)
        maps = backbone.maps(normalised)
        looks = self.method.attentions(normalised)
        # FCAENet eq. 4 for each map by itself: the mean over a single channel is that channel.
        heat = torch.unflatten(attention(looks.flatten(0, 1).unsqueeze(1)), 0, (-1, looks.shape[1]))
        # onnxscript's optimiser treats eq. 4's tiny addend as zero, so that a constant map would give 0 / 0.
        results = {
            "logits": logits,
            "codes": self._pack(logits),
            "embedding": backbone.pool(maps),
            "attention": heat.masked_fill(heat.isnan(), 0.0),
        }
        return tuple(results[name] for name in self.outputs)

    def _pack(self, logits: Tensor) -> Tensor:
        """Sums of place values: every runtime has these operators, and float32 is exact up to 255."""
        n_bytes = code_bytes(self.bits)
        bits = functional.pad((logits > 0).float(), (0, n_bytes * 8 - self.bits))
        return (bits.reshape(-1, n_bytes, 8) * self.place_values).sum(dim=2).to(torch.uint8)


def to_onnx(encoder: ExportedEncoder, size: int, opset: int = OPSET, ir_version: int = IR_VERSION) -> bytes:
    """The encoder as an ONNX file for photos of `size` x `size` pixels and any batch size.

    Args:
        ir_version: ONNX IR version; docs/bundle-format.md lists which ONNX Runtime reads which.

    Raises:
        BundleError: when torch cannot export it, or the result is not one valid file with standard operators only.
        ConfigError: for an IR version that cannot be written.
    """
    if not OLDEST_IR_VERSION <= ir_version <= IR_VERSION:
        raise ConfigError(f"ONNX IR version {ir_version} cannot be written; choose {OLDEST_IR_VERSION} to {IR_VERSION}")
    images = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                encoder,
                (images,),
                input_names=["images"],
                output_names=list(encoder.outputs),
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
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
    model = program.model_proto
    _forget_the_machine(model)
    made = {entry.version for entry in model.opset_import}
    if made != {opset}:  # torch falls back to another version where it cannot convert
        raise BundleError(f"torch exports this method to ONNX operators of version {max(made)}, not {opset}")
    model.ir_version = ir_version  # the check below ensures that it has no newer features
    graph: bytes = model.SerializeToString(deterministic=True)
    onnx.checker.check_model(graph, full_check=True)
    check_graph(graph)
    return graph


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
