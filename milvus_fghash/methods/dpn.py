"""DPN: deep polarized network (Fan et al., IJCAI 2020).

Each class has a target vector t of +1/-1. The polarization loss pushes each logit z to the side of its target bit, to
at least ``margin`` from zero: for a batch of B photos and c bits

    1 / B * sum_i sum_k max(0, margin - z_ik t_ik)  +  weight / (B c) * sum_i sum_k z_ik^2 .

Beyond the margin it is no longer pushed, which keeps logits from growing. Targets are drawn at random, balanced
(the paper draws each bit with probability 1/2; here they also differ in more than a quarter of the bits as far as that
can be had). Left out: the paper's variants that renew the targets while training, or leave logits near zero undecided.
The second term is not the paper's but an option of its authors' code; ``weight = 0`` leaves it out.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, Batch, Sizes
from milvus_fghash.methods.class_codes import ClassCodes, Codebook, draw_codes
from milvus_fghash.recipes.schema import HeadChoice, Seed


class Config(Frozen):
    margin: Annotated[float, Field(gt=0)] = 1.0
    """m in the paper."""
    weight: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the squared logits; 0 leaves the term out."""
    codebook: Codebook = "balanced"
    """Codebook of the targets."""
    seed: Seed = 0
    """Seed of the targets."""


def polarization(logits: Tensor, targets: Tensor, margin: float) -> Tensor:
    """Mean over photos of sum_k max(0, margin - z_k t_k); logits and targets (b, c) -> scalar."""
    return (margin - logits * targets).clamp(min=0).sum(dim=1).mean()


class Method(ClassCodes):
    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, head, sizes, draw_codes(config.codebook, sizes.n_classes, sizes.n_bits, config.seed))
        self.config = config

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.head(batch.features["anchor"]).float()
        terms = {"polarization": polarization(logits, self.codes[batch.labels], self.config.margin)}
        if self.config.weight:
            terms["size"] = self.config.weight * logits.square().mean()
        return terms
