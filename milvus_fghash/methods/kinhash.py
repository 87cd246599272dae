"""KinHash: one code for each class, and classes that look alike are kin. A method of this project.

Two terms. The first is OrthoHash's (Hoe et al., NeurIPS 2021): batch-normalised outputs are classified by their cosines
with fixed codes of all classes. The codes come from elsewhere, though. They are drawn far apart instead of at random,
so that the nearest two of 100 classes differ in 3 bits of 12, in 8 of 24; and which class gets which code is not left
to chance: before training, classes whose photos have similar mean features are given near codes
(`place_by_similarity`). A network that takes one species for another mostly takes it for one that looks like it. Its
code then still lies near the right ones, and the photos of the right class stand just behind those of the wrong one.

The second compares the photos of a batch with each other. A softmax over known classes says nothing of unknown ones; an
inner product that is asked to be c within any class and 0 between any two carries over to them. Pairs are weighted by
class balance: those of one class, few in a batch, count together as much as all others. With u = tanh(outputs), c bits,
S the pairs of different photos of one class and D the pairs of different classes,

    pairs * c * [ mean_S (u_i . u_j / c - 1)^2 + mean_D (u_i . u_j / c)^2 ] .

The similarity of classes is that of the trunk's features as training finds them; from a random trunk it says little,
and the codes are then dealt out no better than by chance. Only photos with one label each.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from milvus_fghash.config import HeadChoice
from milvus_fghash.methods import orthohash
from milvus_fghash.methods.base import Batch, Sizes, Trunk
from milvus_fghash.methods.class_codes import Codebook, class_means, class_similarity, place_by_similarity
from milvus_fghash.methods.orthohash import cosine_softmax


class Config(orthohash.Config):
    codebook: Codebook = "far-apart"
    """How the codes are drawn."""
    placed: bool = True
    """Whether similar classes get near codes; if not, codes are dealt out as they were drawn."""
    pairs: Annotated[float, Field(ge=0)] = 1 / 12
    """Weight of the second term; 0 leaves it out."""


def balanced_pairs(u: Tensor, labels: Tensor) -> Tensor:
    """The second term above without its weight; u (b, n_bits) and labels (b,) -> scalar.

    A batch without two photos of one class, or without two classes, has no such mean: its part is 0.
    """
    c = u.shape[1]
    products = u @ u.T / c
    same = labels[:, None] == labels[None, :]
    others = ~torch.eye(len(u), dtype=torch.bool, device=u.device)
    near = (products - 1).square()[same & others]
    far = products.square()[~same]
    return c * (near.sum() / max(near.numel(), 1) + far.sum() / max(far.numel(), 1))


class Method(orthohash.Method):
    config: Config

    def __init__(self, trunk: Trunk, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(trunk, head, sizes, config)
        self.wants_features = head.standardise or config.placed

    def fit(self, features: Tensor, labels: Tensor) -> None:
        super().fit(features, labels)
        if self.config.placed:
            similarity = class_similarity(class_means(features, labels, self.sizes.n_classes))
            self.codes.copy_(place_by_similarity(self.codes, similarity, self.config.seed))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        outputs = self.head(batch.features["anchor"]).float()
        terms = {"cosine": cosine_softmax(outputs, batch.labels, self.codes, self.config.scale, self.config.margin)}
        if self.config.pairs:
            terms["pairs"] = self.config.pairs * balanced_pairs(torch.tanh(outputs), batch.labels)
        return terms
