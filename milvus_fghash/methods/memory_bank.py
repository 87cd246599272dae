"""Pairs of a batch with all photos of its round, by the last outputs of each.

With many classes a batch hardly holds two photos of one class, so the pairwise methods (DPSH, DSH, HashNet, DaSH)
compare its photos with a memory. The remembered outputs are constants: gradients flow only to the batch. Three kinds of
pair are left out: with a photo that was not drawn for the round, whose outputs may be outdated (outputs of drawn photos
are of their last pass, which in the first pass of a round is in an earlier round); with one not seen yet; and of a
photo with itself, which carries no information about its class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from milvus_fghash.methods.base import Backbone, Batch, HashMethod, Round, Sizes
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.methods.label_sets import similar
from milvus_fghash.recipes.schema import HeadChoice


@dataclass(frozen=True)
class Pairs:
    """The photos of a batch, b, against those of the round, m."""

    outputs: Tensor
    """(m, n_bits) remembered outputs; zeros for a photo not seen yet."""
    similar: Tensor
    """(b, m) bool, whether both are of one class, or share a label."""
    compared: Tensor
    """(b, m) bool, whether the pair counts."""

    def mean(self, values: Tensor, *, balanced: bool = False) -> Tensor:
        """Mean of (b, m) values over the pairs that count.

        With ``balanced``, the mean over similar pairs plus the mean over dissimilar ones: of S pairs, S_1 similar and
        S_0 dissimilar, each weighs S / S_1 or S / S_0 (HashNet eq. 2). Where no pair is left, its mean is 0.
        """
        if not balanced:
            return _mean_where(values, self.compared)
        similar, dissimilar = self.compared & self.similar, self.compared & ~self.similar
        return _mean_where(values, similar) + _mean_where(values, dissimilar)


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


class MemoryBank(nn.Module):
    """The last outputs of every training photo, as buffers, so that they are kept in checkpoints."""

    outputs: Tensor
    """(n_train, n_bits)"""
    seen: Tensor
    """(n_train,) bool"""

    def __init__(self, n_train: int, n_bits: int) -> None:
        super().__init__()
        self.register_buffer("outputs", torch.zeros(n_train, n_bits))
        self.register_buffer("seen", torch.zeros(n_train, dtype=torch.bool))

    def keep(self, rows: Tensor, outputs: Tensor) -> None:
        """Remember ``outputs``, (b, n_bits), of the training photos ``rows``, (b,)."""
        self.outputs[rows] = outputs.detach()
        self.seen[rows] = True


class PairwiseMethod(HashMethod):
    """A head and a memory bank; a method adds its loss of a pair."""

    drawn: Tensor
    """(m,) the rows of the round."""
    drawn_labels: Tensor
    """(m,) and their labels, numbers as in `Batch`."""

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes) -> None:
        super().__init__(backbone, sizes)
        self.head: HashHead = HashHead(head, backbone.n_features, sizes.n_bits)
        self.wants_features = head.standardise
        self.bank = MemoryBank(sizes.n_train, sizes.n_bits)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.head.fit(features)

    def before_round(self, at: Round) -> None:
        self.drawn, self.drawn_labels = at.rows, at.labels[at.rows]

    def pairs(self, batch: Batch, outputs: Tensor) -> Pairs:
        """Keep a batch's outputs, (b, n_bits), and pair it with the photos of the round.

        They are kept first, so that photos of one batch are compared by their present outputs.
        """
        self.bank.keep(batch.rows, outputs)
        return Pairs(
            outputs=self.bank.outputs[self.drawn],
            similar=similar(batch.labels, self.drawn_labels, self.sizes.label_sets),
            compared=(batch.rows[:, None] != self.drawn) & self.bank.seen[self.drawn],
        )
