"""DaSH, or DSaH: deep saliency hashing (Jin et al., IEEE TIP 2020, arXiv 1807.01459).

An attention network A gives each photo x a saliency map in [0, 1]; the hashing network H, backbone and head, sees x and
the salient image x' = A(x) * x. Both are trained in turn: H by the pairwise loss J of DSH on the outputs of both (with
its quantisation term), while A is fixed; A by the saliency loss, while H is fixed,

    mean over pairs of max(0, J(u'_i, v_j) - J(u_i, v_j) + gap) ,

where v_j are remembered outputs (`memory_bank.py`): the salient image must separate similar from dissimilar photos
better than the whole photo does. The loop has one optimiser, so the turns follow each other step by step: in a turn of
H the map is a constant, in a turn of A the weights of H are. Running statistics of batch norm follow both turns.

Only the abstract was available. It names the two networks, the three losses and that pairs guide the attention; their
forms, A's layers, the memory and the turns are inferred. The memory, which both J of the saliency loss share, is of
those images that codes come from (``encode``). x is the normalised photo, so what is not salient fades to the
mean colour.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from milvus_fghash.methods import dsh
from milvus_fghash.methods.base import Backbone, Batch, Round, Sizes
from milvus_fghash.methods.memory_bank import PairwiseMethod
from milvus_fghash.recipes.schema import HeadChoice


class Config(dsh.Config):
    encode: Literal["salient", "photo"] = "salient"
    """Whether codes come from the salient image, or from the photo by a network that was trained on both."""
    gap: Annotated[float, Field(ge=0)] = 0.1
    """By how much J of the salient image should be lower, per bit."""
    attention_every: Annotated[int, Field(gt=1)] = 4
    """Of so many steps one is A's turn, the last; the others are H's."""
    width: Annotated[int, Field(gt=0)] = 16
    """Channels of A's first layer."""


class Saliency(nn.Module):
    """A: a small fully convolutional network; (b, 3, h, w) -> (b, 1, h, w) in [0, 1]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in ((3, width, 2), (width, 2 * width, 2), (2 * width, 2 * width, 1)):
            layers += [nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(2 * width, 1, 1), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(self.layers(images), size=images.shape[2:], mode="bilinear")


def fixed(network: nn.Module, inputs: Tensor) -> Tensor:
    """Output of a network with constant weights: the gradient flows only to ``inputs``."""
    outputs: Tensor = functional_call(network, {name: w.detach() for name, w in network.named_parameters()}, inputs)
    return outputs


class Method(PairwiseMethod):
    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, head, sizes)
        self.config = config
        self.saliency = Saliency(config.width)
        self.features_key = config.encode
        self.embedding_key = "photo+salient"
        self.step = 0

    def attentions(self, images: Tensor) -> Tensor:
        """A's map, (b, 1, h, w)."""
        maps: Tensor = self.saliency(images)
        return maps

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(images * self.saliency(images) if self.config.encode == "salient" else images)
        return features

    def before_round(self, at: Round) -> None:
        super().before_round(at)
        self.step = at.number  # not 0, so that rounds of a single step take turns too

    def embed(self, images: Tensor) -> dict[str, Tensor]:
        """Features of the "photo" and of its salient image: "salient" in a turn of H, "guided" in one of A."""
        maps = self.saliency(images)
        self.step += 1
        if self.training and self.step % self.config.attention_every == 0:
            name, features = "guided", fixed(self.backbone, torch.cat([images, images * maps]))
        else:
            name, features = "salient", self.backbone(torch.cat([images, images * maps.detach()]))
        photo, salient = features.chunk(2)
        return {"anchor": salient if self.config.encode == "salient" else photo, "photo": photo, name: salient}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        guided = "guided" in batch.features
        features = torch.cat([batch.features["photo"], batch.features["guided" if guided else "salient"]])
        logits = fixed(self.head, features).float() if guided else self.head(features).float()
        u, u_salient = logits.chunk(2)
        pairs = self.pairs(batch, u_salient if self.config.encode == "salient" else u)
        margin = self.config.margin * self.sizes.n_bits
        of_photo, of_salient = (dsh.contrast(x, pairs.outputs, pairs.similar, margin) for x in (u, u_salient))
        if guided:
            hinges = (of_salient - of_photo.detach() + self.config.gap * self.sizes.n_bits).clamp(min=0)
            return {"saliency": pairs.mean(hinges)}
        terms = {"pairs": pairs.mean((of_photo + of_salient) / 2)}
        if self.config.weight:
            terms["quantisation"] = self.config.weight * (logits.abs() - 1).abs().mean()
        return terms
