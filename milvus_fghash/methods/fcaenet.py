"""FCAENet: feature consistency driven attention erasing (Pattern Recognition 2022, arXiv 2110.04479).

The Baseline, plus two pulls on the anchor's outputs u_a (ESRL, eq. 7-9): towards u_p of another photo of its class, and
towards u_e of the photo with its hottest region erased (SREM, `erasing.py`). All three go through the same weights;
only the anchor meets the learned codes, and gradients flow through all three, as eq. 10 and 14-15 are read. Encoding
and the code step are the Baseline's (eq. 10-17).

Not in the paper's text, so decided here, most of it by options: the weights alpha and beta, which have gamma's scale
and are divided by B N like the other terms (eq. 9 names a normaliser without showing it), which point of a box lies on
its hot pixel, whether photos are normalised before or after they are erased, and whether the distance is the plain
squared one or that of vectors scaled to one length; whether photos are drawn anew for each round, as here, or for each
of its epochs, which the text can mean as well. Plain distances can be lowered by shrinking all outputs; scaled ones
not. Boxes scale with the input size, their number does not.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor

from milvus_fghash.methods import baseline
from milvus_fghash.methods.base import Backbone, Batch, Sizes
from milvus_fghash.methods.erasing import BoxAt, erase, side_of_box
from milvus_fghash.recipes.schema import HeadChoice

Distance = Literal["plain", "cosine"]


class Config(baseline.Config):
    alpha: Annotated[float, Field(ge=0)] = 200.0
    """Weight of the pull to the positive photo; 0 leaves it out."""
    beta: Annotated[float, Field(ge=0)] = 200.0
    """Weight of the pull to the erased photo; 0 leaves SREM out."""
    distance: Distance = "plain"
    """`plain`: ||u_a - u||^2 as printed; `cosine`: the same of vectors scaled to length sqrt(c)."""
    boxes: Annotated[int, Field(gt=0)] = 50
    """n in the paper: how many boxes are erased."""
    box_size: Annotated[int, Field(gt=0)] = 32
    """s in the paper: side of a box, in pixels of a 224-pixel photo; other input sizes scale it."""
    box_at: BoxAt = "corner"
    """Which point of a box lies on its hot pixel."""
    erased_to: Literal["mean", "black"] = "mean"
    """Colour of the erased region: eq. 5's 0 in the normalised photo is the mean colour, before normalising black."""


def pair_distance(first: Tensor, second: Tensor, distance: Distance) -> Tensor:
    """Sum over the batch of the squared distance of two sets of outputs, both (b, c) -> scalar."""
    if distance == "plain":
        return (first - second).square().sum()
    c = first.shape[1]
    return 2 * c * (1 - F.cosine_similarity(first, second, dim=1)).sum()


def erased(images: Tensor, maps: Tensor, backbone: Backbone, config: Config) -> Tensor:
    """SREM: normalised photos (b, 3, h, w) without the hottest region of their maps, those of the last stage."""
    side = side_of_box(config.box_size, images.shape[-1])
    black = backbone.normalise(images.new_zeros(1, 3, 1, 1, dtype=torch.uint8)) if config.erased_to == "black" else None
    return erase(images, maps, config.boxes, side, config.box_at, black)


class Method(baseline.Method):
    config: Config

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, head, sizes, config)
        self.wants_positives = config.alpha > 0
        if config.beta:
            self.embedding_key = f"anchor+erased-{config.boxes}x{config.box_size}" + "-centre" * (
                config.box_at == "centre"
            )
            self.embedding_key += "-black" * (config.erased_to == "black")

    def embed(self, images: Tensor) -> dict[str, Tensor]:
        if not self.config.beta:
            return super().embed(images)
        maps, anchor = self.backbone.maps_and_features(images)
        return {"anchor": anchor, "erased": self.backbone(erased(images, maps, self.backbone, self.config))}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        names = [name for name in ("anchor", "positive", "erased") if name in batch.features]
        # One pass through the head: with batch norm, all three must be normalised by the same statistics.
        outputs = torch.tanh(self.head(torch.cat([batch.features[name] for name in names])).float())
        u: dict[str, Tensor] = dict(zip(names, outputs.chunk(len(names)), strict=True))
        terms = self.anchor_loss(u["anchor"], batch)
        scale = self.scale(len(batch.rows))
        for name, weight in (("positive", self.config.alpha), ("erased", self.config.beta)):
            if weight:
                terms[name] = scale * weight * pair_distance(u["anchor"], u[name], self.config.distance)
        return terms
