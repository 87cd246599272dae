"""A2-Net++: A2-Net whose features must also reconstruct the photo (Wei et al., TPAMI 2023).

    image = w * mean over pixels of (G(f) - x)^2,   w = 0.01 in the first half of the rounds and 0.1 in the second

G is a small decoder of transposed convolutions that ends in a sigmoid. It is used only in training: the code of a photo
is A2-Net's.

Follows the published modules of the authors' group; how their script adds up the losses is not published. Inferred:
that the image term is added, at the weights above. From the modules: the codes' terms (pairs, quantisation,
decorrelation) are multiplied by 4, and decorrelation applies from the first round; a script has one map for each bit,
which is the recipe's choice, not the default. Left out: a second decoder on f^, whose loss is computed there but not
added. The target there is a photo normalised by mean and deviation, which a sigmoid cannot reach; here it is the photo
in [0, 1], averaged down to the size of G's output.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.methods import a2net
from milvus_fghash.methods.base import Backbone, Batch, Sizes
from milvus_fghash.recipes.schema import HeadChoice

WIDTHS = (512, 256, 128, 64, 32, 16, 3)


class Config(a2net.Config):
    decorrelate_from: Literal["start", "half"] = "start"
    """Whether bits are decorrelated in all rounds or in the second half."""
    codes: Annotated[float, Field(gt=0)] = 4.0
    """Factor of pairs, quantisation and decorrelation."""
    image_first: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the reconstruction of the photo in the first half of the rounds."""
    image_second: Annotated[float, Field(ge=0)] = 0.1
    """The same in the second half."""
    image_size: Annotated[int, Field(gt=0, multiple_of=32)] = 224
    """Side of G's output, in pixels."""


class ImageDecoder(nn.Sequential):
    """G: features (b, n_features) -> photos (b, 3, size, size) in [0, 1], from size / 32 pixels by five doublings."""

    def __init__(self, n_features: int, size: int) -> None:
        layers: list[nn.Module] = [nn.Linear(n_features, WIDTHS[0]), nn.Unflatten(1, (WIDTHS[0], 1, 1))]
        for before, after in itertools.pairwise(WIDTHS):
            first = before == WIDTHS[0]
            widen = nn.ConvTranspose2d(before, after, size // 32 if first else 4, 1 if first else 2, 0 if first else 1)
            layers += [widen, nn.BatchNorm2d(after), nn.ReLU()]
        layers[-1] = nn.Sigmoid()
        super().__init__(*layers)


def shrunk(backbone: Backbone, images: Tensor, size: int) -> Tensor:
    """Undo the backbone's normalisation of (b, 3, h, w), and average to (b, 3, size, size) in [0, 1]."""
    mean = torch.tensor(backbone.mean, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(backbone.std, device=images.device).view(1, 3, 1, 1)
    return F.adaptive_avg_pool2d(images * std + mean, size)


class Method(a2net.Method):
    config: Config

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, head, sizes, config)
        self.decoder = ImageDecoder(self.head.bits.in_features, config.image_size)
        self.embedding_key = f"anchor+photo-{config.image_size}"

    def embed(self, images: Tensor) -> dict[str, Tensor]:
        return {"anchor": self.features(images), "photo": shrunk(self.backbone, images, self.config.image_size)}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().loss(batch)
        terms |= {name: self.config.codes * value for name, value in terms.items() if name != "reconstruction"}
        weight = self.config.image_second if self.second_half else self.config.image_first
        if weight:
            terms["image"] = weight * F.mse_loss(self.decoder(batch.features["anchor"]), batch.features["photo"])
        return terms
