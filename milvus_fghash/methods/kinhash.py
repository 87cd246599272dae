"""KinHash: the code that is expected to be right, where classes that look alike are kin. A method of this project.

A short code has no room to be learned bit by bit, so it is not. The head is a plain classifier, taught as FISH teaches
its own: features go through the spatial filter, and the loss is the cross entropy of the photo and of the photo without
its hottest pixels (`spatial_filter.py`). With p_k(x) its posterior of class k and h_k the +-1 code of that class,
output j of a photo is by how much the photo raises the log odds that bit j is on,

    log [ sum_{k: h_kj = +1} p_k(x) / n_j+ ] - log [ sum_{k: h_kj = -1} p_k(x) / n_j- ] ,   p = softmax(logits / T) ,

where n_j+ and n_j- classes have the bit on and off, so that a photo that says nothing of its class leaves it open.
But for that, these are the signs of the expected code, sum_k p_k(x) h_k, and no other code agrees with the code of
the right class in more bits by expectation over p: each bit asks all classes, weighted by how likely they are. A
photo that is surely of one class has that class's code. One that may be of either of two has the bits that both
share, and the likelier's elsewhere; one of a class never seen is told by all the classes that it resembles. Nothing
is left to quantise.

The codes are drawn far apart, so that the nearest two of 100 classes differ in 3 bits of 12, in 8 of 24. Which class
gets which one is not left to chance: classes whose photos have similar mean features get near codes
(`place_by_similarity`). A network that takes one species for another mostly takes it for one that looks like it; photos
of the right class then stand just behind those of the wrong one.

T is how much doubt a code tells: long codes have bits enough to say which classes compete, but at 12 bits a mixture of
two codes soon is the code of a third class. Hence it grows with the code length, T = bits / 24, unless it is given.

The similarity of classes is that of the trunk's features as training finds them; from a random trunk it says little,
and the codes are then dealt out no better than by chance. Only photos with one label each.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.config import HeadChoice
from milvus_fghash.methods.base import Batch, Sizes, Trunk
from milvus_fghash.methods.class_codes import (
    Codebook,
    class_means,
    class_similarity,
    draw_codes,
    place_by_similarity,
)
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.methods.spatial_filter import FilterConfig, FilteredMethod

BITS_PER_TEMPERATURE = 24
"""Code length at which the classifier's posteriors are taken as they are."""


class Config(FilterConfig):
    codebook: Codebook = "far-apart"
    """How the codes are drawn."""
    placed: bool = True
    """Whether similar classes get near codes; if not, codes are dealt out as they were drawn."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """T; None: the code length over 24. Towards 0 every photo gets the code of its likeliest class."""
    seed: int = 0
    """Of the codes, and of their placing."""


def bit_log_odds(logits: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """The outputs above; logits (b, n_classes) and codes (n_classes, n_bits) -> (b, n_bits).

    Odds of a bit that all likely classes share end at 1e30. A bit that all classes share says nothing, and is theirs.
    """
    posteriors = F.softmax(logits / temperature, dim=1)
    on, off = (posteriors @ _shares(side.to(logits.dtype)) for side in (codes > 0, codes < 0))
    return torch.log(on + 1e-30) - torch.log(off + 1e-30)


def _shares(members: Tensor) -> Tensor:
    """Of each bit, 1 / n for the n classes that have it so, 0 for the others; (n_classes, n_bits) of 1 and 0."""
    return members / members.sum(dim=0).clamp(min=1)


class ClassifiedHead(nn.Module):
    """Features -> class logits -> log odds of the bits."""

    codes: Tensor
    """(n_classes, n_bits) signs."""

    def __init__(self, choice: HeadChoice, n_features: int, codes: Tensor, temperature: float) -> None:
        super().__init__()
        self.classes = HashHead(choice, n_features, len(codes))
        self.temperature = temperature
        self.register_buffer("codes", codes)

    def forward(self, features: Tensor) -> Tensor:
        return bit_log_odds(self.classes(features).float(), self.codes, self.temperature)


class Method(FilteredMethod):
    learned_source = "class codes"

    def __init__(self, trunk: Trunk, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(trunk, sizes, config)
        self.config = config
        self.wants_features = head.standardise or config.placed
        codes = draw_codes(config.codebook, sizes.n_classes, sizes.n_bits, config.seed)
        temperature = config.temperature or sizes.n_bits / BITS_PER_TEMPERATURE
        self.head: ClassifiedHead = ClassifiedHead(head, trunk.n_features, codes, temperature)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.head.classes.fit(features)
        if self.config.placed:
            similarity = class_similarity(class_means(features, labels, self.sizes.n_classes))
            self.head.codes.copy_(place_by_similarity(self.head.codes, similarity, self.config.seed))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.classified(self.head.classes, batch)[1]

    def learned_codes(self, labels: Tensor) -> Tensor:
        return self.head.codes[labels]
