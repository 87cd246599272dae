"""A bundle: what can be seen of a network that only answers. ONNX Runtime; never torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.bits import Codes, Outputs, pack
from milvus_fghash.errors import BundleError
from milvus_fghash.explaining.attention import READING, attention_views
from milvus_fghash.explaining.model import BATCH, Heat, Model, Pixels, View, Views
from milvus_fghash.explaining.pictures import overlay, positive
from milvus_fghash.serving.encoder import Encoder

PARTS = 8
"""A square that hides is two of so many parts of a photo's side wide, and moves by one."""

OCCLUSION = (
    "Hidden: occlusion. Squares of a quarter of the photo's side were painted over in the mean colour, one after the "
    "other. The outputs lose most by bright places: the code rests on them. Dark ones do not matter, or speak against "
    "the code. At a loss of 100 % the outputs no longer speak for the code."
)
ABSENT = (
    "class-activation maps. They need gradients, which a bundle does not hold: give the checkpoint. The hidden squares "
    "stand in for them.",
    "the region that selective region erasing (SREM) takes away. It is found with torch, which a bundle does without: "
    "give the checkpoint.",
)
NO_ATTENTION = "attention, with which this bundle was not exported: export it again with --output attention."


class Served(Model):
    """The bundle's `attention` output, if it has one, and what painting over parts of the photo does to the code."""

    kind = "bundle"

    def __init__(self, path: Path, provider: str | None = None, threads: int = 0) -> None:
        self.encoder = Encoder.open(path, provider, threads, BATCH)
        manifest = self.encoder.bundle.manifest
        self.path, self.method, self.bits = path, manifest.method, manifest.bits
        self.lineage, self.preprocessing = manifest.lineage, manifest.preprocessing
        self.has_attention = "attention" in manifest.outputs
        self.readings = {"attention": READING} if self.has_attention else {}
        self.readings |= {"hidden": OCCLUSION}
        self.absent = ABSENT if self.has_attention else (NO_ATTENTION, *ABSENT)

    def run(self, pixels: Pixels) -> tuple[Codes, Outputs]:
        codes, outputs = self.encoder.run(pixels, "logits")
        if not np.array_equal(codes, pack(outputs)):
            raise BundleError(f"the codes of {self.path} are not the signs of its outputs; export the model again")
        return codes, outputs

    def views(self, photo: Pixels, shown_bits: Sequence[int], most_maps: int) -> Views:
        looks = Views([])
        if self.has_attention:
            maps = self.encoder.run(photo[None], "attention")[1][0]
            maps = maps if maps.ndim == 3 else maps[None]  # (b, h, w), the mean map alone, before the first release
            looks = attention_views(photo, maps, self.bits, shown_bits, most_maps)
        heat, worst = self._occlusion(photo)
        caption = (
            f"the worst square costs {round(100 * worst)}\N{NO-BREAK SPACE}%"
            if worst > 0
            else "no single square matters"
        )
        return Views([*looks.shown, View("hidden", caption, overlay(photo, heat))], looks.left_out)

    def _occlusion(self, photo: Pixels) -> tuple[Heat, float]:
        """Mean loss of the squares over each pixel, as a share of the highest, and the loss of the worst square.

        The loss of a square is the part of sum |output| that goes when it is hidden: 1 leaves nothing for the code's
        bits in sum, more speaks for the opposite code.
        """
        side = len(photo)
        step = max(1, side // PARTS)
        starts = sorted({*range(0, side - 2 * step + 1, step), side - 2 * step})
        places = [(slice(top, top + 2 * step), slice(left, left + 2 * step)) for top in starts for left in starts]
        hidden = np.repeat(photo[None], len(places), axis=0)
        for one, place in zip(hidden, places, strict=True):
            one[place] = self._mean_colour()
        (whole,), outputs = self.run(photo[None])[1], self.run(hidden)[1]
        signs = np.where(whole > 0, 1.0, -1.0)
        strength = float(np.abs(whole).sum())
        if strength == 0:
            return np.zeros((side, side)), 0.0
        losses = 1 - outputs @ signs / strength
        total, times = np.zeros((2, side, side))
        for place, loss in zip(places, losses, strict=True):
            total[place] += loss
            times[place] += 1
        return positive(total / times), float(losses.max())

    def _mean_colour(self) -> NDArray[np.uint8]:
        return np.round(255 * np.clip(self.encoder.bundle.manifest.mean, 0, 1)).astype(np.uint8)
