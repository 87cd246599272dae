"""CSQ: central similarity quantization (Yuan et al., CVPR 2020).

Each class has a hash centre h of +1/-1; the outputs u = tanh(z) of its photos are pulled there bit by bit, and towards
+1/-1. For a batch of B photos and c bits

    1 / (B c) * sum_i sum_k [ BCE((u_ik + 1) / 2, (h_ik + 1) / 2) + lambda (|u_ik| - 1)^2 ] .

The centres are rows of a Hadamard matrix where c is a power of two and there are enough of them, else random balanced
codes that differ in more than a quarter of the bits as far as that can be had (`class_codes.py`; the authors' code
redraws all of them a few times and may leave two classes with one code). The paper smooths |u| - 1 with log cosh;
their code squares it, and so does this. Only photos with one label each.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, Batch, Sizes
from milvus_fghash.methods.class_codes import ClassCodes, Codebook, draw_codes
from milvus_fghash.recipes.schema import HeadChoice, Seed


class Config(Frozen):
    quantisation: Annotated[float, Field(ge=0)] = 1e-4
    """lambda in the paper; 0 leaves the term out. Later studies on fine-grained photos take 0.1."""
    codebook: Codebook = "hadamard"
    """Codebook of the centres."""
    seed: Seed = 0
    """Seed of the centres."""


def central_similarity(logits: Tensor, centres: Tensor) -> Tensor:
    """Mean cross-entropy of (tanh(logits) + 1) / 2 against (centres + 1) / 2, both (b, c) -> scalar."""
    # (tanh(z) + 1) / 2 is the logistic function of 2 z: this form stays exact where the logarithm of a 0 would not.
    return F.binary_cross_entropy_with_logits(2 * logits, (centres + 1) / 2)


class Method(ClassCodes):
    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, head, sizes, draw_codes(config.codebook, sizes.n_classes, sizes.n_bits, config.seed))
        self.config = config

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.head(batch.features["anchor"]).float()
        terms = {"centres": central_similarity(logits, self.codes[batch.labels])}
        if self.config.quantisation:
            terms["quantisation"] = self.config.quantisation * (torch.tanh(logits).abs() - 1).square().mean()
        return terms
