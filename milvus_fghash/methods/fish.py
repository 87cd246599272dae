"""FISH: fine-grained hashing with double filtering (Chen et al., IEEE TIP 2022).

Spatial filter: of the last maps, places that are not hotter than their photo's mean count half. Class filter: of the
class logits, all but the largest are damped, and a linear layer turns them into the logits of the bits. Codes are made
from the labels alone, one per class, before training (`class_codes`); the network learns

    CE(class logits) + CE(class logits of the photo without its hottest pixels) + MSE(bit logits, code of the class) .

Its constants are those of a public re-implementation; all but mu and the number of sweeps are options. Differs from it:
codes are solved for classes, not photos, and are the signs of R V after the last sweep, where it keeps those with which
the last sweep began; they are kept distinct where two classes would share one, and the best of a few starts is taken;
how much of a photo is erased follows from its pixels (`chance`), and the map that says where is resized without aligned
corners.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.errors import DataError
from milvus_fghash.methods.base import Backbone, Batch, Sizes, generator
from milvus_fghash.methods.class_codes import bernoulli_codes
from milvus_fghash.methods.classified import ClassifiedConfig, ClassifiedMethod
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.recipes.schema import Fraction, HeadChoice, Seed

PULL = 1e-4
"""mu below: weight of the codes against the labels when the class vectors are solved."""
MANY_BITS = 256
"""Longer codes are drawn at random: solving those of 1,024 bits takes minutes, and at 256 bits solved codes of 100
classes are at least 100 bits apart, random ones 97."""
MAX_FLIPPED_BITS = 12
"""Bits of a class that may flip to keep its code distinct: 4096 choices, of which other classes take a few."""


class Config(ClassifiedConfig):
    background: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Factor of the places that are not hotter than their photo's mean; 1 leaves the spatial filter out."""
    others: Fraction = 0.7
    """Factor of every class logit but the largest."""
    starts: Annotated[int, Field(gt=0)] = 10
    """Random starts of the class codes, of which the one with the largest least distance is kept; 1 as published."""
    seed: Seed = 0
    """Seed of those starts."""


def spatial_filter(maps: Tensor, background: float) -> Tensor:
    """(b, k, h, w) with the places scaled whose channel sum is not above its mean over the photo."""
    heat = maps.float().sum(dim=1, keepdim=True)  # rounded, places near the mean would change sides
    return maps * torch.where(heat > heat.mean(dim=(2, 3), keepdim=True), 1.0, background)


def class_filter(class_logits: Tensor, others: float) -> Tensor:
    """Every logit but the largest of its photo is scaled, (b, n_classes); of equal largest ones none."""
    return class_logits * torch.where(class_logits == class_logits.amax(dim=1, keepdim=True), 1.0, others)


def best_label_map(vectors: Tensor) -> Tensor:
    """U that minimises ||L - U V||^2 for V of (c, n_classes) and L = I: L V^T (V V^T)^+ = V^+, (n_classes, c)."""
    label_map: Tensor = torch.linalg.pinv(vectors)
    return label_map


def best_vectors(label_map: Tensor, rotation: Tensor, signs: Tensor) -> Tensor:
    """V that minimises ||L - U V||^2 + mu ||B - R V||^2: (U^T U + mu R^T R)^-1 (U^T L + mu R^T B), (c, n_classes)."""
    gram = label_map.T @ label_map + PULL * rotation.T @ rotation
    vectors: Tensor = torch.linalg.solve(gram, label_map.T + PULL * rotation.T @ signs)
    return vectors


def best_rotation(signs: Tensor, vectors: Tensor) -> Tensor:
    """Orthogonal R that minimises ||B - R V||^2: S1 S2 of the singular value decomposition S1 D S2 of B V^T, (c, c)."""
    left, _, right = torch.linalg.svd(signs @ vectors.T)
    rotation: Tensor = left @ right
    return rotation


def distinct_signs(vectors: Tensor) -> Tensor:
    """Signs of (n_classes, c) vectors, no two rows the same.

    A row whose code is taken gets the free one with the smallest sum of |entries| over the flipped bits.

    Raises:
        DataError: when there are more classes than codes.
    """
    if len(vectors) > 2 ** vectors.shape[1]:
        raise DataError(f"{vectors.shape[1]} bits give too few codes for {len(vectors)} classes. Use more bits")
    signs = torch.where(vectors >= 0, 1.0, -1.0).to(vectors.dtype)
    n_turning = min(MAX_FLIPPED_BITS, signs.shape[1])
    turned = (torch.arange(2**n_turning)[:, None] >> torch.arange(n_turning) & 1).to(vectors.dtype)
    taken: set[tuple[float, ...]] = set()
    for row, vector in zip(signs, vectors, strict=True):
        if tuple(row.tolist()) in taken:
            unsure = vector.abs().argsort(stable=True)[:n_turning]
            choices = row.repeat(len(turned), 1)
            choices[:, unsure] *= 1 - 2 * turned
            cheapest = (turned @ vector[unsure].abs()).argsort(stable=True)
            row.copy_(next(code for code in choices[cheapest] if tuple(code.tolist()) not in taken))
        taken.add(tuple(row.tolist()))
    return signs


def separation(signs: Tensor) -> tuple[int, int]:
    """Least Hamming distance between two rows of (n, c) signs, n > 1, and minus the number of pairs that have it."""
    n, c = signs.shape
    distances = ((c - signs @ signs.T) / 2)[*torch.triu_indices(n, n, offset=1)]
    return int(distances.min()), -int((distances == distances.min()).sum())


def class_codes(n_classes: int, n_bits: int, seed: int = 0, starts: int = 10, sweeps: int = 15) -> Tensor:
    """One code for each class from labels alone, (n_classes, n_bits) signs: with L the classes' one-hot columns,

        min over U, V, B of +-1, orthogonal R of   ||L - U V||^2 + mu ||B - R V||^2 ,

    each in turn, from random V. R starts as the identity: random V have no direction that another one would change.

    Published with a column per photo. Photos that start from one vector for their class keep one, whatever their number
    (if the classes are of one size); with a start each they mostly end there too, but not where classes are fewer than
    bits, since then part of each start is tied to no label.
    """
    if n_bits > MANY_BITS:
        return bernoulli_codes(n_classes, n_bits, seed)
    found = []
    for start in range(starts):
        random = generator(seed, start)
        vectors = torch.randn(n_bits, n_classes, generator=random, dtype=torch.float64)
        rotation = torch.eye(n_bits, dtype=torch.float64)
        for _ in range(sweeps):
            signs = torch.where(rotation @ vectors >= 0, 1.0, -1.0).double()
            vectors = best_vectors(best_label_map(vectors), rotation, signs)
            rotation = best_rotation(signs, vectors)
        found.append(distinct_signs((rotation @ vectors).T).float())
    return max(found, key=separation)


class FilteredHead(nn.Module):
    """Features -> class logits -> filtered -> logits of the bits."""

    def __init__(self, choice: HeadChoice, n_features: int, sizes: Sizes, others: float) -> None:
        super().__init__()
        self.others = others
        self.classes = HashHead(choice, n_features, sizes.n_classes)
        self.bits = nn.Linear(sizes.n_classes, sizes.n_bits)

    def bit_logits(self, class_logits: Tensor) -> Tensor:
        """(b, n_classes) -> (b, n_bits)."""
        logits: Tensor = self.bits(class_filter(class_logits, self.others))
        return logits

    def forward(self, features: Tensor) -> Tensor:
        return self.bit_logits(self.classes(features))


class Method(ClassifiedMethod):
    learned_source = "class codes"
    codes: Tensor
    """(n_classes, n_bits) signs."""

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, sizes, config)
        self.config = config
        if config.background < 1:
            self.features_key = f"pooled-filtered-{config.background}"
        self.head: FilteredHead = FilteredHead(head, backbone.n_features, sizes, config.others)
        self.wants_features = head.standardise
        self.register_buffer("codes", class_codes(sizes.n_classes, sizes.n_bits, config.seed, config.starts))

    def maps_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.backbone.maps(images)
        return maps, self.backbone.pool(spatial_filter(maps, self.config.background))

    def features(self, images: Tensor) -> Tensor:
        return self.maps_and_features(images)[1]

    def attentions(self, images: Tensor) -> Tensor:
        return spatial_filter(self.backbone.maps(images), self.config.background).mean(dim=1, keepdim=True)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.head.classes.fit(features)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        class_logits, terms = self.classified(self.head.classes, batch)
        return {**terms, "codes": F.mse_loss(self.head.bit_logits(class_logits), self.codes[batch.labels])}

    def learned_codes(self, labels: Tensor) -> Tensor:
        return self.codes[labels]
