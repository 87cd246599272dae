"""A frozen backbone from an ONNX file, run by ONNX Runtime; its file is a buffer, so that checkpoints contain it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from milvus_fghash.core.bounded_file import check_regular
from milvus_fghash.embedding_models.model import EmbeddingModel
from milvus_fghash.embedding_models.preprocessor import ModelInput, find_preprocessor, read_preprocessor
from milvus_fghash.embedding_models.read import metadata_of, read_embedding_model
from milvus_fghash.errors import ConfigError, TrainingError
from milvus_fghash.methods.base import Backbone
from milvus_fghash.training.weights import Normalisation, normalisation_in

NO_MAPS: Final = (
    "an ONNX model gives pooled features and no maps, which this method or output needs. Choose a method that works on "
    "pooled features, such as itq, or kinhash with method.options.erasing=0, or a backbone of timm"
)
BUFFER: Final = "backbone.graph"
"""Name of the ONNX file among the tensors of a checkpoint."""


class OnnxBackbone(Backbone):
    """An embedding model without gradients: it gives pooled features and no maps."""

    graph: Tensor
    """The ONNX file, (n_bytes,) uint8."""

    def __init__(self, model: EmbeddingModel, normalisation: Normalisation, licence: str = "unknown") -> None:
        super().__init__()
        self.name, self.model, self.n_features = "onnx", model, model.n_features
        self.side = model.side
        self.mean, self.std, self.licence = normalisation.mean, normalisation.std, licence
        self.register_buffer("graph", torch.from_numpy(np.frombuffer(model.graph, np.uint8).copy()))

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) normalised -> (b, n_features)."""
        contiguous = np.ascontiguousarray(images.detach().float().cpu().numpy())
        return torch.from_numpy(self.model.features(contiguous)).to(images.device)

    def maps(self, images: Tensor) -> Tensor:
        raise ConfigError(NO_MAPS)


def build_onnx(weights: str, normalisation: Normalisation | None = None) -> OnnxBackbone:
    """The backbone of an ONNX file.

    Args:
        weights: path of the file.
        normalisation: default: that of a `preprocessor_config.json` beside it, else of its own metadata.

    Raises:
        ConfigError: when the file is not an embedding model, or neither says how photos are normalised.
    """
    path = Path(weights)
    model = EmbeddingModel.open(read_embedding_model(path))
    metadata = metadata_of(path)
    return OnnxBackbone(model, normalisation or _normalisation(path, metadata), metadata.get("licence", "unknown"))


def restored_onnx(checkpoint: Path) -> OnnxBackbone:
    """The backbone whose file a checkpoint contains; the checkpoint's record has its normalisation.

    Raises:
        TrainingError: when there is none.
    """
    file = checkpoint / "model.safetensors"
    try:
        check_regular(file)
        with safe_open(file, "pt") as tensors:
            graph = tensors.get_tensor(BUFFER).numpy().tobytes()
        return OnnxBackbone(EmbeddingModel.open(graph), Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    except (SafetensorError, OSError, ConfigError) as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"the weights in {checkpoint} cannot be used: {reason}") from None


def onnx_input(weights: str) -> ModelInput | None:
    """What the `preprocessor_config.json` of an ONNX file says; None where it has none."""
    found = find_preprocessor(Path(weights))
    return read_preprocessor(found) if found else None


def _normalisation(path: Path, metadata: Mapping[str, str]) -> Normalisation:
    if found := onnx_input(str(path)):
        return Normalisation(found.mean, found.std)
    if normalisation := normalisation_in(metadata, path):
        return normalisation
    raise ConfigError(
        f"nothing says how photos are normalised for {path}: put the preprocessor_config.json of the model beside "
        "it, or set backbone.mean and backbone.std"
    )
