"""A bundle: what can be seen of a network that only answers. ONNX Runtime; never torch."""

from __future__ import annotations

from pathlib import Path

from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.encoding.graph_runs import ENCODE_TIMEOUT
from milvus_fghash.explain.attention import READING, attention_views
from milvus_fghash.explain.model import BATCH, Model, ModelOutputs, Pixels, Views
from milvus_fghash.explain.occlusion import OCCLUSION, hidden_view

ABSENT = (
    "class-activation maps. They need gradients, which a bundle does not hold: give the checkpoint. The hidden squares "
    "stand in for them.",
    "the region that selective region erasing (SREM) takes away. It is found with torch, which a bundle does without: "
    "give the checkpoint.",
)
NO_ATTENTION = "attention, with which this bundle was not exported: export it again with that output."


class BundleModel(Model):
    """The bundle's `attention` output, if it has one, and what painting over parts of the photo does to the code."""

    kind = "bundle"

    def __init__(
        self, path: Path, provider: str | None = None, threads: int = 0, encode_timeout: float = ENCODE_TIMEOUT
    ) -> None:
        self.encoder = Encoder.open(path, provider, threads, BATCH, encode_timeout=encode_timeout)
        manifest = self.encoder.bundle.manifest
        self.path, self.method, self.bits = path, manifest.method, manifest.bits
        self.lineage, self.preprocessing, self.mean = manifest.lineage, manifest.preprocessing, manifest.mean
        self.has_attention = "attention" in manifest.outputs
        self.readings = {"attention": READING} if self.has_attention else {}
        self.readings |= {"hidden": OCCLUSION}
        self.absent = ABSENT if self.has_attention else (NO_ATTENTION, *ABSENT)

    def run(self, pixels: Pixels) -> ModelOutputs:
        codes, logits = self.encoder.run(pixels, "logits")
        return ModelOutputs(codes, logits, logits)

    def views(self, photo: Pixels, most_maps: int) -> Views:
        looks = Views([])
        if self.has_attention:
            maps = self.encoder.run(photo[None], "attention")[1][0]
            maps = maps if maps.ndim == 3 else maps[None]  # (b, h, w), the mean map alone, before the first release
            looks = attention_views(photo, maps, most_maps)
        return Views([*looks.shown, hidden_view(self, photo)], looks.left_out)
