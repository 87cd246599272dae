"""OrthoHash: one loss for all (Hoe et al., NeurIPS 2021).

The logits z, batch-normalised bit by bit so that each splits the photos in half, are classified by their cosines with
the fixed codes h_1 ... h_C of +1/-1 of all classes, one code for each. With scale s and margin m, a photo of class y
costs

    -log [ exp(s (cos(z, h_y) - m)) / (exp(s (cos(z, h_y) - m)) + sum_{k != y} exp(s cos(z, h_k))) ] .

A large cosine with a code of signs also makes z itself nearly binary, so there is no quantisation term. Codes are
random bits as in the paper, but no two alike: at 12 bits independent draws would give several classes one code. The
linear layer keeps its bias, which batch norm takes out again. Only photos with one label each.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, Batch, Sizes
from milvus_fghash.methods.class_codes import ClassCodes, Codebook, draw_codes
from milvus_fghash.recipes.schema import HeadChoice, Seed


class Config(Frozen):
    scale: Annotated[float, Field(gt=0)] = 8.0
    """s in the paper."""
    margin: Annotated[float, Field(ge=0, lt=2)] = 0.2
    """m in the paper, taken off the cosine with the photo's own class."""
    codebook: Codebook = "bernoulli"
    """Codebook of the codes."""
    seed: Seed = 0
    """Seed of the codes."""


def cosine_softmax(logits: Tensor, labels: Tensor, codes: Tensor, scale: float, margin: float) -> Tensor:
    """The loss above, averaged over photos.

    Args:
        logits: (b, c); zeros have a cosine of 0 with every code.
        labels: (b,) class numbers.
        codes: (n_classes, c) signs.
        scale: s.
        margin: m.
    """
    cosines = F.normalize(logits, dim=1) @ F.normalize(codes, dim=1).T
    own = F.one_hot(labels, len(codes))
    return F.cross_entropy(scale * (cosines - margin * own), labels)


class Method(ClassCodes):
    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        codes = draw_codes(config.codebook, sizes.n_classes, sizes.n_bits, config.seed)
        super().__init__(backbone, head, sizes, codes, norm_logits=True)
        self.config = config

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.head(batch.features["anchor"]).float()
        cost = cosine_softmax(logits, batch.labels, self.codes, self.config.scale, self.config.margin)
        return {"cosine": cost}
