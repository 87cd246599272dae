"""KinHash: the code that is expected to be right, where classes that look alike are kin. A method of this project.

A short code has no room to be learned bit by bit, so it is not. The head is a plain classifier, and the loss the cross
entropy of the photo and of the photo without its hottest pixels, as in FISH (`classified.py`). Its posteriors p_k(x) =
softmax(logits / T)_k and the +-1 codes h_k of the classes say what a code is worth to a photo, and the photo gets the
best.

Where few enough codes are possible, all are weighed. A code q is worth to class k

    w_k(q) = AP_k(q) + A_k(q) ,   less its mean over classes,

A_k the share of bits in which q and h_k agree, and AP_k the average precision of a query q among photos that all have
their classes' codes, with k the right class: if L classes are nearer to q and s are as near as k, k itself among them,

    AP = 1/s [ 1 - L/s ln(1 + s/L) ] ,   1/s for L = 0

(the integral of x / (L + s x) over 0 < x < 1: a share x of the photos that tie was met, of which one in s is right).
The photo's code has the highest sum_k p_k(x) w_k(q); output j is by how much the best code with bit j on beats the best
with bit j off. A photo torn between two classes may get the code of neither, from which both are the nearest.

Of longer codes the one with the best sum_k p_k(x) A_k(q) needs no search: output j is by how much the photo raises the
log odds that bit j is on,

    log [ sum_{k: h_kj = +1} p_k(x) / n_j+ ] - log [ sum_{k: h_kj = -1} p_k(x) / n_j- ] ,

where n_j+ and n_j- classes have the bit on and off. But for these counts, by which a photo that says nothing of its
class leaves every bit open (above, the mean over classes does the same), it is the sign of the expected code: each bit
asks all classes, weighted by how likely they are. A photo that is surely of one class has that class's code, and one of
a class never seen is told by all the classes that it resembles. Nothing is left to quantise.

The codes are drawn far apart, so that the nearest two of 100 classes differ in 3 bits of 12, in 8 of 24. Which class
gets which one is not left to chance: classes whose photos have similar mean features get near codes
(`place_by_similarity`). A network that takes one species for another mostly takes it for one that looks like it; photos
of the right class then stand just behind those of the wrong one.

T is how much doubt a code tells. The fewer the classes and the longer the codes, the less is a mixture of two codes
mistaken for the code of a third; so, unless T is given,

    T = max( bits / 24 , sqrt(100 / n_classes) ) .

(Found on held-out training photos of a hundred classes of birds, and of groups of ten to fifty of them.) With a much
higher one training photos no longer have the codes of their classes.

The similarity of classes is that of the trunk's features as training finds them; from a random trunk it says little,
and the codes are then dealt out no better than by chance. Only photos with one label each.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.methods.base import Batch, Sizes, Trunk, generator
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
"""Below so many classes, and above so many bits, codes tell more doubt than the classifier's posteriors."""
NEVER = -1e30
"""Logarithm of a share of 0: finite, as the gradient of a sum of zeros is not."""


class Config(ClassifiedConfig):
    codebook: Codebook = "far-apart"
    """How the codes are drawn."""
    placed: bool = True
    """Whether similar classes get near codes; if not, codes are dealt out as they were drawn."""
    most_weighed: Annotated[int, Field(ge=0, le=2**26)] = 3_000_000
    """Possible codes times classes up to which all codes are weighed: the numbers of the table that the network then
    holds, and its multiply-adds (3 million: one hundredth of MobileNetV2's at 224 px). 0: never."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """T; None: `doubt_told`. Towards 0 every photo gets the code of its likeliest class."""
    seed: Seed = 0
    """Of the codes, and of their placing."""


def doubt_told(n_classes: int, n_bits: int) -> float:
    """T, unless it is given."""
    return max(n_bits / MANY_BITS, math.sqrt(FEW_CLASSES / n_classes))


def worth(codes: Tensor) -> Tensor:
    """What each code there is, is worth to each class: codes (n_classes, n_bits) -> (n_classes, 2**n_bits).

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
    # Which of two equally good codes is taken is drawn here: left to rounding, another runtime would take the other.
    lots = 1e-4 * torch.rand(2**n_bits, generator=generator(0)).to(gain)
    shared = (codes == codes[0]).all(dim=0)  # such a bit says nothing, and is that of the classes
    theirs = 1e-3 * (possible[:, shared] == codes[0, shared]).sum(dim=1)
    return gain - gain.mean(dim=0) + lots + theirs


def bit_margins(logits: Tensor, worth: Tensor, temperature: float) -> Tensor:
    """By how much the best code with a bit on beats the best with it off: logits (b, n_classes) -> (b, n_bits)."""
    expected = F.softmax(logits / temperature, dim=1) @ worth
    n_bits = worth.shape[1].bit_length() - 1
    best = [expected.view(-1, 2**bit, 2, 2 ** (n_bits - 1 - bit)).amax(dim=(1, 3)) for bit in range(n_bits)]
    return torch.stack([of_bit[:, 1] - of_bit[:, 0] for of_bit in best], dim=1)


def bit_log_odds(logits: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """The log odds above; logits (b, n_classes) and codes (n_classes, n_bits) -> (b, n_bits).

    Odds of a bit that all likely classes share end at 1e30. A bit that all classes share says nothing, and is theirs.
    """
    posteriors = F.softmax(logits / temperature, dim=1)
    on, off = (posteriors @ _shares(side.to(logits.dtype)) for side in (codes > 0, codes < 0))
    return torch.log(on + 1e-30) - torch.log(off + 1e-30)


def bit_evidence(logits: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """The log odds above without an end: however sure a photo is, they still grow and have gradients.

    A bit that all classes share has nothing to speak for it, and gives 0.
    """
    log_posteriors = F.log_softmax(logits / temperature, dim=1)[:, :, None]
    on, off = (
        torch.logsumexp(log_posteriors + _shares(side.to(logits.dtype)).log().clamp(min=NEVER), dim=1)
        for side in (codes > 0, codes < 0)
    )
    return (on - off).masked_fill((codes == codes[0]).all(dim=0), 0.0)


def _shares(members: Tensor) -> Tensor:
    """Of each bit, 1 / n for the n classes that have it so, 0 for the others; (n_classes, n_bits) of 1 and 0."""
    return members / members.sum(dim=0).clamp(min=1)


class ClassifiedHead(nn.Module):
    """Features -> class logits -> outputs of the bits."""

    codes: Tensor
    """(n_classes, n_bits) signs."""
    worth: Tensor
    """`worth` of them, or nothing where codes are not weighed."""

    def __init__(self, choice: HeadChoice, n_features: int, codes: Tensor, config: Config) -> None:
        super().__init__()
        n_classes, n_bits = codes.shape
        self.classes = HashHead(choice, n_features, n_classes)
        self.weighing = n_classes * 2**n_bits <= config.most_weighed
        self.temperature = config.temperature or doubt_told(n_classes, n_bits)
        self.register_buffer("codes", codes)
        self.register_buffer("worth", torch.empty(0))
        self.deal(codes)

    def deal(self, codes: Tensor) -> None:
        """Give each class its code."""
        self.codes.copy_(codes)
        if self.weighing:
            self.worth = worth(self.codes)

    def forward(self, features: Tensor) -> Tensor:
        logits = self.classes(features).float()
        if self.weighing:
            return bit_margins(logits, self.worth, self.temperature)
        return bit_log_odds(logits, self.codes, self.temperature)

    def evidence(self, features: Tensor) -> Tensor:
        """`bit_evidence`, where codes are weighed too: what all codes are worth to a sure photo no longer changes."""
        return bit_evidence(self.classes(features).float(), self.codes, self.temperature)


class Method(ClassifiedMethod):
    learned_source = "class codes"
    evidence_is = "log odds"

    def __init__(self, trunk: Trunk, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(trunk, sizes, config)
        self.config = config
        self.wants_features = head.standardise or config.placed
        codes = draw_codes(config.codebook, sizes.n_classes, sizes.n_bits, config.seed)
        self.head: ClassifiedHead = ClassifiedHead(head, trunk.n_features, codes, config)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.head.classes.fit(features)
        if self.config.placed:
            similarity = class_similarity(class_means(features, labels, self.sizes.n_classes))
            self.head.deal(place_by_similarity(self.head.codes, similarity, self.config.seed))

    def evidence(self, features: Tensor) -> Tensor:
        return self.head.evidence(features)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.classified(self.head.classes, batch)[1]

    def learned_codes(self, labels: Tensor) -> Tensor:
        return self.head.codes[labels]
