"""KinHash: the code with the highest expected utility; classes that look alike get near codes (this project).

A short code has too few bits to learn each by itself, so the head is a classifier, and the loss the cross entropy of
the photo and of the photo without its hottest pixels, as in FISH (`classified.py`). The posteriors p_k(x) =
softmax(class logits / T)_k and the +-1 codes h_k of the classes give each code an expected utility for the photo, and
the photo gets the best code.

Where few enough codes are possible, all are compared. The utility of a code q for class k is

    w_k(q) = AP_k(q) + A_k(q) ,   less its mean over classes,

A_k the share of bits in which q and h_k agree, and AP_k the average precision of a query q among photos that all have
their classes' codes, with k the right class: if L classes are nearer to q and s are as near as k, k itself among them,

    AP = 1/s [ 1 - L/s ln(1 + s/L) ] ,   1/s for L = 0

(the integral of x / (L + s x) over 0 < x < 1: a share x of the tied photos has been seen, of which one in s is right).
The photo's code has the highest sum_k p_k(x) w_k(q); logit j is the difference between the best code with bit j on and
the best with bit j off. A photo torn between two classes may get the code of neither, but one near both.

Of longer codes the one with the best sum_k p_k(x) A_k(q) needs no search: logit j is by how much the photo raises the
log odds that bit j is on,

    log [ sum_{k: h_kj = +1} p_k(x) / n_j+ ] - log [ sum_{k: h_kj = -1} p_k(x) / n_j- ] ,

where n_j+ and n_j- classes have the bit on and off. But for these counts, by which equal posteriors leave every bit
undecided (above, the mean over classes does the same), it is the sign of the expected code: every class votes on each
bit, weighted by its posterior. A photo that is surely of one class gets that class's code; one of an unseen class gets
a mixture of the codes of the classes it resembles. Nothing is left to quantise.

The codes are drawn far apart, so that the nearest two of 100 classes differ in 3 bits of 12, in 8 of 24. They are
assigned by similarity: classes whose photos have similar mean features get near codes (`place_by_similarity`). A
network mostly confuses a species with one that looks like it; photos of the right class then rank just behind those of
the wrong one.

T is the softmax temperature: how much class uncertainty the code keeps. The fewer the classes and the longer the codes,
the less is a mixture of two codes mistaken for the code of a third; so, unless T is given,

    T = max( bits / 24 , sqrt(100 / n_classes) ) .

(Found on held-out training photos of a hundred classes of birds, and of groups of ten to fifty of them.) With a much
higher one training photos no longer have the codes of their classes.

The similarity of classes is that of the backbone's features at the start of training; with a randomly initialised
backbone it says little, and the codes are then assigned no better than at random. Only photos with one label each.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.methods.base import Backbone, Batch, Sizes, generator
from milvus_fghash.methods.class_codes import (
    Codebook,
    class_means,
    class_similarity,
    draw_codes,
    place_by_similarity,
)
from milvus_fghash.methods.classified import ClassifiedConfig, ClassifiedMethod
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.recipes.schema import HeadChoice, Seed

FEW_CLASSES, MANY_BITS = 100, 24
"""With fewer classes or more bits than these, the default temperature is above 1."""
NEVER = -1e30
"""Stands for the logarithm of 0: the gradient of minus infinity would not be a number."""


class Config(ClassifiedConfig):
    codebook: Codebook = "far-apart"
    """Codebook of the class codes."""
    placed: bool = True
    """Whether similar classes get near codes; if not, codes are assigned in the order in which they were drawn."""
    most_weighed: Annotated[int, Field(ge=0, le=2**26)] = 3_000_000
    """Largest number of possible codes times classes for which all codes are compared: the size of the table that the
    network then holds, and its multiply-adds (3 million: a hundredth of MobileNetV2's at 224 px). 0: never."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """T; None: `default_temperature`. Towards 0 every photo gets the code of its most likely class."""
    seed: Seed = 0
    """Seed of the codes and of their assignment."""


def default_temperature(n_classes: int, n_bits: int) -> float:
    """T where none is given."""
    return max(n_bits / MANY_BITS, math.sqrt(FEW_CLASSES / n_classes))


def code_utility(codes: Tensor) -> Tensor:
    """Utility w_k(q) of every possible code for every class: codes (n_classes, n_bits) -> (n_classes, 2**n_bits).

    Codes are in the order of their bits read as a number, the first bit being the highest.
    """
    n_bits = codes.shape[1]
    possible = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], device=codes.device)] * n_bits).view(-1, n_bits)
    agreeing = (n_bits + codes @ possible.T) / 2
    distances = n_bits - agreeing.long()
    classes_at = torch.zeros(n_bits + 1, 2**n_bits, dtype=codes.dtype, device=codes.device)
    classes_at.scatter_add_(0, distances, torch.ones_like(agreeing))
    nearer = (classes_at.cumsum(dim=0) - classes_at).gather(0, distances)
    as_near = classes_at.gather(0, distances)
    lost = nearer / as_near * torch.log1p(as_near / nearer.clamp(min=1))
    gain = (1 - lost) / as_near + agreeing / n_bits
    # Ties between equally good codes are broken at random here: rounding would break them otherwise in each runtime.
    lots = 1e-4 * torch.rand(2**n_bits, generator=generator(0)).to(gain)
    shared = (codes == codes[0]).all(dim=0)  # a bit that all classes share carries no information, and is kept
    theirs = 1e-3 * (possible[:, shared] == codes[0, shared]).sum(dim=1)
    return gain - gain.mean(dim=0) + lots + theirs


def bit_margins(class_logits: Tensor, utility: Tensor, temperature: float) -> Tensor:
    """Expected utility of the best code with a bit on, less that with it off: (b, n_classes) -> (b, n_bits)."""
    expected = F.softmax(class_logits / temperature, dim=1) @ utility
    n_bits = utility.shape[1].bit_length() - 1
    best = [expected.view(-1, 2**bit, 2, 2 ** (n_bits - 1 - bit)).amax(dim=(1, 3)) for bit in range(n_bits)]
    return torch.stack([of_bit[:, 1] - of_bit[:, 0] for of_bit in best], dim=1)


def bit_log_odds(class_logits: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """The log odds above; class logits (b, n_classes) and codes (n_classes, n_bits) -> (b, n_bits).

    The odds end at 1e30. A bit that all classes share carries no information, and is kept.
    """
    posteriors = F.softmax(class_logits / temperature, dim=1)
    on, off = (posteriors @ _shares(side.to(class_logits.dtype)) for side in (codes > 0, codes < 0))
    return torch.log(on + 1e-30) - torch.log(off + 1e-30)


def unbounded_log_odds(class_logits: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """The log odds above without a bound: however certain the class, they still grow and have gradients.

    A bit that all classes share gives 0.
    """
    log_posteriors = F.log_softmax(class_logits / temperature, dim=1)[:, :, None]
    on, off = (
        torch.logsumexp(log_posteriors + _shares(side.to(class_logits.dtype)).log().clamp(min=NEVER), dim=1)
        for side in (codes > 0, codes < 0)
    )
    return (on - off).masked_fill((codes == codes[0]).all(dim=0), 0.0)


def _shares(members: Tensor) -> Tensor:
    """Of each bit, 1 / n for the n classes that have it so, 0 for the others; (n_classes, n_bits) of 1 and 0."""
    return members / members.sum(dim=0).clamp(min=1)


class ClassifiedHead(nn.Module):
    """Features -> class logits -> logits of the bits."""

    codes: Tensor
    """(n_classes, n_bits) signs."""
    code_utility: Tensor
    """`code_utility` of them; empty where not all codes are weighed."""

    def __init__(self, choice: HeadChoice, n_features: int, codes: Tensor, config: Config) -> None:
        super().__init__()
        n_classes, n_bits = codes.shape
        self.classes = HashHead(choice, n_features, n_classes)
        self.weighing = n_classes * 2**n_bits <= config.most_weighed
        self.temperature = config.temperature or default_temperature(n_classes, n_bits)
        self.register_buffer("codes", codes)
        self.register_buffer("code_utility", torch.empty(0))
        self.assign_codes(codes)

    def assign_codes(self, codes: Tensor) -> None:
        """Set the code of each class, (n_classes, n_bits)."""
        self.codes.copy_(codes)
        if self.weighing:
            self.code_utility = code_utility(self.codes)

    def forward(self, features: Tensor) -> Tensor:
        class_logits = self.classes(features).float()
        if self.weighing:
            return bit_margins(class_logits, self.code_utility, self.temperature)
        return bit_log_odds(class_logits, self.codes, self.temperature)

    def bit_scores(self, features: Tensor) -> Tensor:
        """`unbounded_log_odds`, also where all codes are compared: utilities saturate for a certain class."""
        return unbounded_log_odds(self.classes(features).float(), self.codes, self.temperature)


class Method(ClassifiedMethod):
    learned_source = "class codes"
    bit_scores_name = "log odds"

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, sizes, config)
        self.config = config
        self.wants_features = head.standardise or config.placed
        codes = draw_codes(config.codebook, sizes.n_classes, sizes.n_bits, config.seed)
        self.head: ClassifiedHead = ClassifiedHead(head, backbone.n_features, codes, config)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.head.classes.fit(features)
        if self.config.placed:
            similarity = class_similarity(class_means(features, labels, self.sizes.n_classes))
            self.head.assign_codes(place_by_similarity(self.head.codes, similarity, self.config.seed))

    def bit_scores(self, features: Tensor) -> Tensor:
        return self.head.bit_scores(features)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.classified(self.head.classes, batch)[1]

    def learned_codes(self, labels: Tensor) -> Tensor:
        return self.head.codes[labels]
