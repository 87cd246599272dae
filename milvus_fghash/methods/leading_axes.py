"""Principal axes of wide rows that are computed in parts: they are never all in memory.

Up to `EXACT_WIDTH` columns the axes are those of the scatter matrix. Beyond, they are found by subspace iteration from
random directions (Halko, Martinsson & Tropp, "Finding structure with randomness", SIAM Review 2011, algorithm 4.4),
each pass of which computes the rows anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor

from milvus_fghash.methods.affine import reject_equal
from milvus_fghash.methods.base import generator

EXACT_WIDTH: Final = 2_048
"""Columns up to which the axes are exact."""
ROWS_AT_A_TIME: Final = 2_048
PASSES, MORE_DIRECTIONS = 4, 16
"""Passes of the subspace iteration, and directions in it besides the axes that are wanted."""
LEAST_VARIANCE: Final = 1e-8
"""Axes with less than this share of the largest variance are left out."""


class LeadingAxes(NamedTuple):
    """Centre, axes, and the rows on them."""

    mean: Tensor
    """(d,) float64."""
    axes: Tensor
    """(d, k) float64, orthonormal, that of the largest variance first."""
    projected: Tensor
    """(n, k) float64."""


def leading_axes(rows_of: Callable[[Tensor], Tensor], features: Tensor, count: int, seed: int) -> LeadingAxes:
    """At most ``count`` principal axes, without those of no variance.

    Args:
        rows_of: features (b, n_features) -> rows (b, d), the same whenever they are computed.
        features: (n, n_features).
        count: number of axes.
        seed: of the random directions.

    Raises:
        DataError: when all rows are equal.
    """

    def rows() -> Iterator[Tensor]:
        return (rows_of(part) for part in torch.split(features, ROWS_AT_A_TIME))

    parts = [(part.sum(dim=0, dtype=torch.float64), *torch.aminmax(part, dim=0)) for part in rows()]
    sums, least, largest = (torch.stack(column) for column in zip(*parts, strict=True))
    reject_equal(least.amin(dim=0).cpu().numpy(), largest.amax(dim=0).cpu().numpy(), len(features))
    mean = sums.sum(dim=0) / len(features)

    def scatter_times(directions: Tensor | None) -> Tensor:
        """The scatter matrix of the rows, (d, d), times directions (d, k); None: as it is."""
        total = mean.new_zeros(len(mean), len(mean) if directions is None else directions.shape[1])
        for part in rows():
            centred = part - mean if directions is None else part - mean.to(part)
            total += centred.T @ (centred if directions is None else centred @ directions.to(centred))
        return total

    count = min(count, len(mean), len(features))
    if len(mean) <= EXACT_WIDTH:
        axes = torch.linalg.eigh(scatter_times(None)).eigenvectors.flip(1)[:, :count]
    else:
        width = min(count + MORE_DIRECTIONS, len(mean))
        drawn = torch.randn(len(mean), width, generator=generator(seed), dtype=torch.float64).to(mean)
        directions = torch.linalg.qr(drawn).Q
        for _ in range(PASSES):
            directions = torch.linalg.qr(scatter_times(directions)).Q
        within = directions.T @ scatter_times(directions)
        turned = torch.linalg.eigh((within + within.T) / 2).eigenvectors.flip(1)[:, :count]
        axes = directions @ turned
    projected = torch.cat([(part - mean) @ axes for part in rows()])
    variances = projected.square().mean(dim=0)
    kept = variances > variances.max() * LEAST_VARIANCE
    return LeadingAxes(mean, axes[:, kept], projected[:, kept])
