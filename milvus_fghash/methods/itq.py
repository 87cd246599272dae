"""ITQ: iterative quantisation (Gong & Lazebnik, CVPR 2011).

The centred features are projected on their c principal axes, Y = X E, and rotated so that their signs lose little:

    min_{B, R} ||B - Y R||_F^2 ,  B in {-1, +1}^{n x c},  R orthogonal.

With R fixed, B = sign(Y R); with B fixed, R = U Vt of the singular vectors of Y^T B = U D Vt (orthogonal Procrustes
problem). The two are solved in turn, from a random rotation. A code is the sign of (x - mean) E R.

For more bits than the k axes that there are, R is (k, c) with orthonormal rows, from random ones; the same step then
solves it, since ||Y R|| = ||Y|| for every such R. The paper has c <= k.

Whether features are scaled to length 1 first is not stated; ``normalise`` does it, and the recipe asks for it. Labels
are not used; B is what encoding gives for the training photos, so there is no learned gallery; the recipe's head is not
used.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, LearnsNothing, Sizes, generator
from milvus_fghash.methods.projections import Projection, principal_axes
from milvus_fghash.recipes.schema import HeadChoice, Seed


class Config(Frozen):
    iterations: Annotated[int, Field(gt=0)] = 50
    """How often codes and rotation are solved in turn."""
    normalise: bool = False
    """Scale each photo's features to length 1 first."""
    seed: Seed = 0
    """Seed of the initial rotation."""


def nearest_rotation(projected: Tensor, signs: Tensor) -> Tensor:
    """The R of orthonormal columns or rows, (d, c), with the largest trace of B^T Y R; Y ``projected``, (n, d), and B
    ``signs``, (n, c). For d = c, which is ITQ, it has the smallest ||B - Y R||."""
    left, _, right = torch.linalg.svd(projected.T @ signs, full_matrices=False)
    rotation: Tensor = left @ right
    return rotation


def solve_rotation(projected: Tensor, rotation: Tensor, iterations: int) -> Tensor:
    """Solve the codes and the rotation in turn; a zero logit's sign is -1, as in `milvus_fghash.core.codes.pack`.

    Args:
        projected: (n, d) centred features on their principal axes.
        rotation: (d, c) of orthonormal columns or rows, to start from.
        iterations: how often.

    Returns:
        (d, c), likewise.
    """
    for _ in range(iterations):
        signs = (projected @ rotation > 0).to(projected) * 2 - 1
        rotation = nearest_rotation(projected, signs)
    return rotation


class Method(LearnsNothing):
    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, sizes)
        self.config = config
        self.head: Projection = Projection(backbone.n_features, sizes.n_bits, config.normalise)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        centred, bits = self.head.fit(features), self.sizes.n_bits
        axes = principal_axes(centred, min(bits, features.shape[1], max(1, len(features) - 1)))
        random = torch.randn(bits, bits, generator=generator(self.config.seed), dtype=torch.float64)
        start = torch.linalg.qr(random).Q[: axes.shape[1]].to(centred)
        rotation = solve_rotation(centred @ axes, start, self.config.iterations)
        self.head.weight.copy_((axes @ rotation).T)
