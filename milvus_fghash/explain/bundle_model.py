"""A bundle: attention, if exported, and occlusion. ONNX Runtime; never torch."""

from __future__ import annotations

from pathlib import Path

from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.encoding.graph_runs import ENCODE_TIMEOUT
from milvus_fghash.explain import attention, occlusion
from milvus_fghash.explain.attention import attention_views
from milvus_fghash.explain.model import BATCH, Model, ModelOutputs, Pixels, Views
from milvus_fghash.explain.occlusion import occlusion_view

NO_GRADIENTS = (
    "class-activation maps, the erased region and, of methods that have them, the classes and clusters that move a bit "
    "(they need the checkpoint)"
)
NO_ATTENTION = "attention (export the bundle with the attention output)"


class BundleModel(Model):
    """The bundle's `attention` output, if it has one, and the effect of covering parts of the photo."""

    kind = "bundle"

    def __init__(
        self, path: Path, provider: str | None = None, threads: int = 0, encode_timeout: float = ENCODE_TIMEOUT
    ) -> None:
        self.encoder = Encoder.open(path, provider, threads, BATCH, encode_timeout=encode_timeout)
        manifest = self.encoder.bundle.manifest
        self.path, self.method, self.bits = path, manifest.method, manifest.bits
        self.lineage, self.preprocessing, self.mean = manifest.lineage, manifest.preprocessing, manifest.mean
        self.has_attention = "attention" in manifest.outputs
        self.descriptions = {"attention": attention.DESCRIPTION} if self.has_attention else {}
        self.descriptions |= {"occlusion": occlusion.DESCRIPTION}
        self.unavailable = (NO_GRADIENTS,) if self.has_attention else (NO_ATTENTION, NO_GRADIENTS)

    def run(self, pixels: Pixels) -> ModelOutputs:
        codes, logits = self.encoder.run(pixels, "logits")
        return ModelOutputs(codes, logits, logits)

    def views(self, photo: Pixels, max_maps: int) -> Views:
        views = Views([])
        if self.has_attention:
            maps = self.encoder.run(photo[None], "attention")[1][0]
            maps = maps if maps.ndim == 3 else maps[None]  # (b, h, w), the mean map alone, before the first release
            views = attention_views(photo, maps, max_maps)
        return Views([*views.shown, occlusion_view(self, photo)], views.left_out)
