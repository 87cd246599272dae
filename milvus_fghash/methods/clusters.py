"""Spherical k-means (Dhillon & Modha, Machine Learning 2001); centres are found with a sample where there are many.

Own code: scikit-learn's k-means minimises Euclidean distances and is one more large dependency.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor

ITERATIONS: Final = 20
ROWS_AT_A_TIME: Final = 8_192


def spherical_kmeans(points: Tensor, n_clusters: int, random: torch.Generator, max_fit: int) -> Tensor:
    """Clusters of points of length 1 by cosine.

    Args:
        points: (n, d), each of length 1.
        n_clusters: their number, at most n; a cluster can be empty only where points are equal.
        random: draws the first centres.
        max_fit: centres are found with at most this number of points; then each point goes to its nearest centre.

    Returns:
        (n,) int64, number of each point's cluster.
    """
    drawn = torch.randperm(len(points), generator=random)[:max_fit].to(points.device)
    fitted = points[drawn]
    centres = fitted[:n_clusters].clone()
    for _ in range(ITERATIONS):
        numbers, similarities = nearest(fitted, centres)
        sums = torch.zeros_like(centres).index_add_(0, numbers, fitted)
        empty = (torch.bincount(numbers, minlength=n_clusters) == 0).nonzero()[:, 0]
        sums[empty] = fitted[similarities.argsort()[: len(empty)]]  # the points that are farthest from their centres
        centres = F.normalize(sums)
    return nearest(points, centres)[0]


def nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Number of the centre nearest to each point, (n,), and the cosine between them."""
    parts = [(part @ centres.T).max(dim=1) for part in torch.split(points, ROWS_AT_A_TIME)]
    return torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts])
