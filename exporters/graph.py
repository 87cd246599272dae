"""A method -> one ONNX file: pixels in, logits and packed codes out."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Final

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from milvus_fghash.bundle.onnx_check import check_graph
from milvus_fghash.core.codes import code_bytes
from milvus_fghash.embedding_models.join import FEATURES, LOGITS, joined, opset_of
from milvus_fghash.errors import ConfigError, nearest
from milvus_fghash.methods.base import HashMethod
from milvus_fghash.methods.erasing import attention
from milvus_fghash.training.onnx_backbone import NO_MAPS, OnnxBackbone
from milvus_fghash.training.onnx_trace import OPSET, trace

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
        backbone = self.method.backbone
        shared = functools.lru_cache(maxsize=1)(getattr(backbone, backbone.computed_once))
        setattr(backbone, backbone.computed_once, shared)
        self.register_buffer("place_values", 2.0 ** torch.arange(7, -1, -1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        backbone = self.method.backbone
        normalised = backbone.normalise(images.permute(0, 3, 1, 2))
        logits: Tensor = self.method(normalised)
        results = {"logits": logits, "codes": self._pack(logits)}
        if "embedding" in self.outputs:
            results["embedding"] = backbone(normalised)
        if "attention" in self.outputs:
            results["attention"] = self._heat(normalised)
        return tuple(results[name] for name in self.outputs)

    def _heat(self, normalised: Tensor) -> Tensor:
        looks = self.method.attentions(normalised)
        # FCAENet eq. 4 for each map by itself: the mean over a single channel is that channel.
        heat = torch.unflatten(attention(looks.flatten(0, 1).unsqueeze(1)), 0, (-1, looks.shape[1]))
        # onnxscript's optimiser treats eq. 4's tiny addend as zero, so that a constant map would give 0 / 0.
        return heat.masked_fill(heat.isnan(), 0.0)

    def _pack(self, logits: Tensor) -> Tensor:
        """Sums of place values: every runtime has these operators, and float32 is exact up to 255."""
        n_bytes = code_bytes(self.bits)
        bits = functional.pad((logits > 0).float(), (0, n_bytes * 8 - self.bits))
        return (bits.reshape(-1, n_bytes, 8) * self.place_values).sum(dim=2).to(torch.uint8)


def to_onnx(encoder: ExportedEncoder, size: int, opset: int = OPSET, ir_version: int = IR_VERSION) -> bytes:
    """The encoder as an ONNX file for photos of `size` x `size` pixels and any batch size.

    A backbone that is an ONNX file itself is joined with the exported head.

    Args:
        opset: version of the operators; an ONNX file as backbone has its own.
        ir_version: ONNX IR version; docs/bundle-format.md lists which ONNX Runtime reads which.

    Raises:
        BundleError: when torch cannot export it, or the result is not one valid file with standard operators only.
        ConfigError: for an IR version that cannot be written, or maps of a backbone that gives none.
    """
    if not OLDEST_IR_VERSION <= ir_version <= IR_VERSION:
        raise ConfigError(f"ONNX IR version {ir_version} cannot be written; choose {OLDEST_IR_VERSION} to {IR_VERSION}")
    backbone = encoder.method.backbone
    if isinstance(backbone, OnnxBackbone):
        if "attention" in encoder.outputs:
            raise ConfigError(NO_MAPS)
        own = backbone.model.graph
        features = torch.zeros(2, backbone.n_features)
        head = trace(encoder.method.head, features, FEATURES, (LOGITS,), opset_of(own))
        return joined(own, head, backbone.mean, backbone.std, size, encoder.bits, encoder.outputs, ir_version)
    images = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    model = trace(encoder, images, "images", encoder.outputs, opset)
    model.ir_version = ir_version  # the check below ensures that it has no newer features
    graph: bytes = model.SerializeToString(deterministic=True)
    onnx.checker.check_model(graph, full_check=True)
    check_graph(graph)
    return graph
