"""Which training photos are similar: those of one class, or, of photos with several labels, those that share one.

Labels of training photos are numbers: class numbers, or numbers of label sets (rows of `Sizes.label_sets`). All of this
takes the table of label sets, (n_label_sets, n_classes) bool, or None where labels are class numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS_AT_A_TIME = 1024
"""Label sets that are compared with all others at a time, so that no square matrix of them is kept."""


def similar(first: Tensor, second: Tensor, label_sets: Tensor | None) -> Tensor:
    """Whether photos with the labels ``first``, (b,), and ``second``, (m,), are similar: (b, m) bool."""
    if label_sets is None:
        return first[:, None] == second
    sets = label_sets.to(first.device).float()
    return sets[first] @ sets[second].T > 0


def sums_of_similar(values: Tensor, labels: Tensor, n_labels: int, label_sets: Tensor | None) -> Tensor:
    """For each label, the sum of the values, (n, ...), of all photos that are similar to one with this label.

    Args:
        values: (n, ...) of photos.
        labels: (n,) their labels.
        n_labels: number of classes or label sets.
        label_sets: see above.

    Returns:
        (n_labels, ...)
    """
    sums = values.new_zeros(n_labels, *values.shape[1:]).index_add_(0, labels, values)
    if label_sets is None:
        return sums
    numbers = torch.arange(n_labels, device=labels.device)
    return torch.cat(
        [similar(part, numbers, label_sets).to(sums.dtype) @ sums for part in torch.split(numbers, ROWS_AT_A_TIME)]
    )
