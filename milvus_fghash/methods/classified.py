"""Classification of photos with and without their hottest pixels, as in FISH (Chen et al., IEEE TIP 2022).

How much is erased follows a public re-implementation, and is an option.
"""

from __future__ import annotations

from typing import Annotated, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, Batch, HashMethod, Sizes
from milvus_fghash.recipes.schema import Fraction

IGNORED: Final = -100
"""The label of a photo that a loss leaves out."""


class ClassifiedConfig(Frozen):
    erasing: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the erased photo's term; 0 leaves erasing out."""
    hottest: Fraction = 0.9
    """Pixels of at least t times the maximum are erased, t between this and 1."""


def chance(images: Tensor) -> Tensor:
    """A pseudo-random number in [0, 1) per photo, (b, 1, 1, 1), a function of its pixels.

    So the erased part of a view does not depend on when it is computed, and can be cached. Sums of integers are exact
    in any order.
    """
    return (images * 4096).round().long().sum(dim=(1, 2, 3), keepdim=True) % 1009 / 1009


@torch.no_grad()
def erase_hottest(images: Tensor, maps: Tensor, hottest: float) -> Tensor:
    """Photos, (b, 3, H, W), with the pixels set to 0 where the resized channel sum reaches t times its maximum.

    The maximum is that of the resized sum, so at least one pixel is erased; of a constant map, all. If the maximum is
    negative, which it never is after a ReLU, its magnitude counts.
    """
    heat = F.interpolate(maps.float().sum(dim=1, keepdim=True), size=images.shape[2:], mode="bilinear")
    highest = heat.amax(dim=(2, 3), keepdim=True)
    spread = (1 - hottest) * (1 - chance(images))
    return images * (heat < highest - spread * highest.abs())


def cross_entropy(class_logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the photos whose label is not `IGNORED`; 0 where there are none."""
    total = F.cross_entropy(class_logits, labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


class ClassifiedMethod(HashMethod):
    """A method trained to classify photos, with and without their hottest pixels."""

    def __init__(self, backbone: Backbone, sizes: Sizes, options: ClassifiedConfig) -> None:
        super().__init__(backbone, sizes)
        self.erasing, self.hottest = options.erasing, options.hottest
        if self.erasing:
            self.embedding_key = f"anchor+erased-{self.hottest}"

    def maps_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The backbone's maps, and the input of the head, (b, n_features)."""
        return self.backbone.maps_and_features(images)

    def embed(self, images: Tensor) -> dict[str, Tensor]:
        if not self.erasing:
            return super().embed(images)
        maps, features = self.maps_and_features(images)
        return {"anchor": features, "erased": self.features(erase_hottest(images, maps, self.hottest))}

    def classified(self, classes: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Class logits, (b, n_classes), and the cross entropies "classes" and "erased" of both views."""
        names = [name for name in ("anchor", "erased") if name in batch.features]
        # One pass: with batch norm, both must be normalised by the same statistics.
        logits = classes(torch.cat([batch.features[name] for name in names])).float().chunk(len(names))
        terms = {"classes": cross_entropy(logits[0], batch.labels)}
        if self.erasing:
            terms["erased"] = self.erasing * cross_entropy(logits[1], batch.labels)
        return logits[0], terms
