"""The Baseline of FCAENet (Table 1): ADSH (Jiang & Li, AAAI 2018) with the complete backbone.

The network is trained on a sample of photos by gradient; the codes of the whole training set are solved bit by bit
between rounds (`asymmetric.py`). The loss of a batch of B photos is (FCAENet eq. 10, ADSH eq. 4)

    (12 / c) * [ sum_i sum_j (u_i . v_j - c S_ij)^2 + gamma * sum_i ||u_i - v_i||^2 ] / (B N) .

Differs from the papers: the soft similarity of the authors' code instead of S = +-1; the factor 12 / c of the later
fine-grained code bases, which keeps the learning rate's meaning over code lengths, and which ADSH's own code does not
have. Codes start as random signs (the authors' as zeros, which carry no signal; later code bases' as normal numbers),
one for each photo or one for each class. (Classes that an untrained network does not separate soon share a code, and
then nothing separates them. With a code for each class from the start, something does.)
Whether FCAENet keeps the quantisation term is not stated; every public ADSH does, and ``gamma = 0`` leaves it out.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.asymmetric import PairTarget, dissimilarity, solve_codes
from milvus_fghash.methods.base import Backbone, Batch, HashMethod, Round, Sizes, generator
from milvus_fghash.methods.class_codes import draw_codes
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.recipes.schema import HeadChoice, Seed


class Config(Frozen):
    gamma: Annotated[float, Field(ge=0)] = 200.0
    """Weight of the quantisation term; 0 leaves it out."""
    scale: Literal["12/c", "none"] = "12/c"
    """Factor of every term, for c bits."""
    start: Literal["photos", "classes"] = "photos"
    """Whether each photo or each class gets a random code in the first round."""
    seed: Seed = 0
    """Seed of those random codes."""


class Method(HashMethod):
    signs: Tensor
    """(n_train, n_bits) learned codes V."""

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, sizes)
        self.config = config
        self.head: HashHead = HashHead(head, backbone.n_features, sizes.n_bits)
        self.wants_features = head.standardise
        random = torch.randint(0, 2, (sizes.n_train, sizes.n_bits), generator=generator(config.seed))
        self.register_buffer("signs", random * 2.0 - 1.0)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.head.fit(features)

    def before_round(self, at: Round) -> None:
        rows, labels, n_labels, label_sets = at.rows, at.labels, self.sizes.n_labels, self.sizes.label_sets
        if at.number == 0 and self.config.start == "classes":
            self.signs.copy_(draw_codes("bernoulli", n_labels, self.sizes.n_bits, self.config.seed)[labels.cpu()])
        self.r = dissimilarity(labels[rows], labels, n_labels, label_sets)
        self.target = PairTarget.of(self.signs, labels, self.r, n_labels, label_sets)
        self.place = torch.full((len(labels),), -1, device=rows.device)
        self.place[rows] = torch.arange(len(rows), device=rows.device)
        self.u = self.signs.new_zeros(len(rows), self.sizes.n_bits)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.anchor_loss(torch.tanh(self.head(batch.features["anchor"]).float()), batch)

    def anchor_loss(self, u: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The two ADSH terms for ``u``, (b, n_bits), the tanh of the logits, which is kept for the code step."""
        self.u[self.place[batch.rows]] = u.detach()
        scale = self.scale(len(u))
        terms = {"pairs": scale * self.target.loss(u, batch.labels).sum()}
        if self.config.gamma:
            terms["quantisation"] = scale * self.config.gamma * (u - self.signs[batch.rows]).square().sum()
        return terms

    def scale(self, batch_size: int) -> float:
        """1 / (B N), times 12 / c unless the config says otherwise: the normaliser of every term."""
        by_length = 12 / self.sizes.n_bits if self.config.scale == "12/c" else 1.0
        return by_length / (batch_size * self.sizes.n_train)

    def after_round(self, at: Round) -> None:
        sizes = self.sizes
        solved = solve_codes(
            self.signs, self.u, at.rows, at.labels, self.r, sizes.n_labels, self.config.gamma, sizes.label_sets
        )
        self.signs.copy_(solved)

    def learned_codes(self, labels: Tensor) -> Tensor:
        return self.signs
