"""Pairwise loss and code step of the ADSH family (Jiang & Li, AAAI 2018), without any m x N matrix.

The network gives u_i = tanh(logits) for the m photos of a round; every photo j of the training set has a learned
code v_j of +1/-1. Both follow one objective,

    J = sum_i sum_j (u_i . v_j - c S_ij)^2  +  gamma * sum_i ||u_i - v_i||^2 ,

with c bits and the *soft* similarity of the authors' code: S_ij = 1 for photos of one class and -r otherwise, where r
is the number of similar pairs of the round over the number of dissimilar ones, so that S sums to zero. (The papers
print S = +-1; on data of many classes that has a trivial optimum in which all codes agree.)

S depends only on the labels, so sums over j need only the sums of codes per class (or per label set, of photos with
several labels, which are similar when they share one): O(c^2) per photo, not O(N c).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from milvus_fghash.errors import DataError
from milvus_fghash.methods.label_sets import sums_of_similar


def dissimilarity(round_labels: Tensor, labels: Tensor, n_labels: int, label_sets: Tensor | None = None) -> float:
    """r: similar pairs over dissimilar pairs between the photos of a round, (m,), and the training set, (N,)."""
    similar = int(_numbers_of_similar(labels, n_labels, label_sets)[round_labels].sum())
    dissimilar = len(round_labels) * len(labels) - similar
    if dissimilar == 0:
        raise DataError("all training photos are similar; a pairwise method needs at least two classes or label sets")
    return similar / dissimilar


@dataclass(frozen=True)
class PairTarget:
    """What the loss needs of the learned codes during one round.

    Attributes:
        gram: V^T V, (c, c).
        pull: M_k = sum_j S_kj v_j for each label k, (n_labels, c).
        energy: sum_j S_kj^2 for each label k, (n_labels,).
    """

    gram: Tensor
    pull: Tensor
    energy: Tensor

    @staticmethod
    def of(signs: Tensor, labels: Tensor, r: float, n_labels: int, label_sets: Tensor | None = None) -> PairTarget:
        """From the learned codes, (N, c), of the training set with ``labels``, (N,)."""
        of_similar = sums_of_similar(signs, labels, n_labels, label_sets)
        similar = _numbers_of_similar(labels, n_labels, label_sets).to(signs.dtype)
        return PairTarget(
            gram=signs.T @ signs,
            pull=(1 + r) * of_similar - r * signs.sum(dim=0),
            energy=similar + (len(labels) - similar) * r**2,
        )

    def loss(self, u: Tensor, labels: Tensor) -> Tensor:
        """sum_j (u_i . v_j - c S_ij)^2 of each photo; u (b, c) and labels (b,) -> (b,)."""
        c = u.shape[1]
        match = (u * self.pull[labels]).sum(dim=1)
        return c**2 * self.energy[labels] - 2 * c * match + ((u @ self.gram) * u).sum(dim=1)


def solve_codes(
    signs: Tensor,
    u: Tensor,
    rows: Tensor,
    labels: Tensor,
    r: float,
    n_labels: int,
    gamma: float,
    label_sets: Tensor | None = None,
) -> Tensor:
    """One sweep of the code step: each column of V is set to its optimum with the other columns fixed.

    FCAENet eq. 16-17 (ADSH eq. 9-10), with the similarity summed per label: O(N c^2) time and O(N c) memory.

    Args:
        signs: (N, c) codes before the step.
        u: (m, c) tanh of the logits of the photos of the round.
        rows: (m,) positions of these photos in the training set, all different.
        labels: (N,) class numbers, or numbers of label sets.
        r: the `dissimilarity` of the round.
        n_labels: number of classes or label sets.
        gamma: weight of the quantisation term; 0 leaves it out.
        label_sets: (n_labels, n_classes) bool, or None, see `label_sets`.

    Returns:
        (N, c) new codes; where both values are equally good, +1.
    """
    c = u.shape[1]
    of_similar = sums_of_similar(u, labels[rows], n_labels, label_sets)
    pull = c * ((1 + r) * of_similar - r * u.sum(dim=0))[labels]
    pull.index_add_(0, rows, gamma * u)
    overlap = u.T @ u
    overlap.fill_diagonal_(0)  # leaves the column itself out of the sum over the others
    solved = signs.clone()
    for k in range(c):
        slope = pull[:, k] - solved @ overlap[:, k]
        solved[:, k] = torch.where(slope >= 0, 1.0, -1.0)
    return solved


def _numbers_of_similar(labels: Tensor, n_labels: int, label_sets: Tensor | None) -> Tensor:
    """How many of the photos with ``labels``, (N,), are similar to one of each label: (n_labels,), exact."""
    ones = torch.ones(len(labels), dtype=torch.float64, device=labels.device)
    return sums_of_similar(ones, labels, n_labels, label_sets)
