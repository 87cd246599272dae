"""CSQ: central similarity quantization (Yuan et al., CVPR 2020).

Each class has a hash centre h of +1/-1; the outputs u = tanh(z) of its photos are pulled there bit by bit, and towards
+1/-1. For a batch of B photos and c bits

    1 / (B c) * sum_i sum_k [ BCE((u_ik + 1) / 2, (h_ik + 1) / 2) + lambda (|u_ik| - 1)^2 ] .

The centres are rows of a Hadamard matrix where c is a power of two and there are enough of them, else random balanced
codes that differ in more than a quarter of the bits as far as that can be had (`class_codes.py`; the authors' code
redraws all of them a few times and may leave two classes with one code). The paper smooths |u| - 1 with log cosh;
their code squares it, and so does this. The centre of a photo with several labels has, bit by bit, the sign of most of
their centres; where the vote is even, a random one, the same for all photos with these labels.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, Batch, Sizes, generator
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


def majority(centres: Tensor, label_sets: Tensor, seed: int) -> Tensor:
    """The centres of label sets: (n_classes, c) signs and (n_label_sets, n_classes) bool -> (n_label_sets, c) signs."""
    votes = label_sets.float() @ centres
    coins = torch.randint(0, 2, votes.shape, generator=generator(seed, 1)) * 2.0 - 1
    return torch.where(votes == 0, coins, votes.sign())


class Method(ClassCodes):
    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        codes = draw_codes(config.codebook, sizes.n_classes, sizes.n_bits, config.seed)
        if sizes.label_sets is not None:
            codes = majority(codes, sizes.label_sets.cpu(), config.seed)
        super().__init__(backbone, head, sizes, codes)
        self.config = config

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.head(batch.features["anchor"]).float()
        terms = {"centres": central_similarity(logits, self.codes[batch.labels])}
        if self.config.quantisation:
            terms["quantisation"] = self.config.quantisation * (torch.tanh(logits).abs() - 1).square().mean()
        return terms
