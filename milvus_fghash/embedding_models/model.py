"""An embedding model in the form of `read_embedding_model`, run by ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.onnx_runtime import load_runtime
from milvus_fghash.embedding_models.read import INPUT, OUTPUT
from milvus_fghash.encoding.session import OPTIONS, choose_provider
from milvus_fghash.errors import ConfigError, one_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Images = NDArray[np.float32]
Features = NDArray[np.float32]

PROBE_SIDE: Final = 224
TOLERANCE: Final = 1e-2
"""By which a feature of a photo may differ alone and in a batch, as a share of the features' largest magnitude."""


@dataclass(frozen=True)
class EmbeddingModel:
    """An embedding model that was loaded and tried.

    Attributes:
        graph: the ONNX file.
        side: side of the photos that it takes, in pixels; None when it takes any.
        n_features: length of the embedding.
    """

    graph: bytes
    side: int | None
    n_features: int
    _session: InferenceSession

    @classmethod
    def open(
        cls, graph: bytes, side: int | None = None, provider: str | None = "cpu", threads: int = 0
    ) -> EmbeddingModel:
        """Load a model and try it on two noise photos.

        Args:
            graph: from `read_embedding_model`.
            side: of the photos to try it on. Default: what the model takes, or 224.
            provider: as in `encoding.session.open_session`.
            threads: CPU threads; 0 lets ONNX Runtime choose.

        Raises:
            ConfigError: when it cannot be loaded, takes photos of another size, or is not an embedding model.
            MissingExtra: when there is no ONNX Runtime.
        """
        runtime = load_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4  # what matters is raised
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the decoders need the cores
        chosen = choose_provider(provider, runtime.get_available_providers())
        wanted = [(name, OPTIONS.get(name, {})) for name in dict.fromkeys((chosen, "CPUExecutionProvider"))]
        try:
            session: Any = runtime.InferenceSession(graph, options, providers=wanted)
        except Exception as error:  # the exceptions of ONNX Runtime have no common class
            raise ConfigError(f"ONNX Runtime cannot load the embedding model: {one_line(error)}") from error
        height, width = session.get_inputs()[0].shape[2:]
        if isinstance(height, int) and height != width:
            raise ConfigError(f"the embedding model takes photos of {width} x {height} pixels; expected a square")
        fixed = height if isinstance(height, int) else None
        if side is not None and fixed is not None and fixed != side:
            raise ConfigError(
                f"the embedding model takes photos of {fixed} x {fixed} pixels, not {side}; set the size of the "
                f"preprocessing to {fixed}",
                setting="size",
            )
        model = cls(graph, fixed, 0, session)
        probe = side or fixed or PROBE_SIDE
        photos = np.random.default_rng(0).standard_normal((2, 3, probe, probe), np.float32)
        n_features = model._tried(photos)
        return cls(graph, fixed, n_features, session)

    def features(self, images: Images) -> Features:
        """(b, 3, h, w) normalised -> (b, n_features).

        Raises:
            ConfigError: when ONNX Runtime cannot compute them.
        """
        try:
            return cast(Features, self._session.run([OUTPUT], {INPUT: images})[0])
        except Exception as error:  # the exceptions of ONNX Runtime have no common class
            raise ConfigError(f"ONNX Runtime cannot run the embedding model: {one_line(error)}") from error

    def __deepcopy__(self, memo: dict[int, Any]) -> EmbeddingModel:
        """Itself: nothing in it changes, and a session cannot be copied."""
        return self

    def _tried(self, photos: Images) -> int:
        """Length of the embedding of two photos, which must not depend on each other."""
        together, alone = self.features(photos), self.features(photos[1:])
        if together.ndim != 2 or len(together) != 2 or len(alone) != 1:
            raise ConfigError(
                f"the embedding model gives an output of shape {together.shape} for two photos; expected a row for "
                "each. Export it with a batch of any size"
            )
        if not np.isfinite(together).all() or np.array_equal(together[0], together[1]):
            raise ConfigError(
                "the embedding model gives the same embedding for every photo, or values that are not finite; "
                "export it again"
            )
        if np.abs(together[1] - alone[0]).max() > TOLERANCE * np.abs(together).max():
            raise ConfigError(
                "the embedding model gives another embedding for a photo alone than in a batch; export it with a "
                "batch of any size, in evaluation mode"
            )
        return int(together.shape[1])
