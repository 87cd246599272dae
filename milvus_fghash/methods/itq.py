"""ITQ: iterative quantisation (Gong & Lazebnik, CVPR 2011).

The centred features are projected on their c principal axes, Y = X E, and rotated so that their signs lose little:

    min_{B, R} ||B - Y R||_F^2 ,  B in {-1, +1}^{n x c},  R orthogonal.

With R fixed, B = sign(Y R); with B fixed, R = U Vt of the singular vectors of Y^T B = U D Vt (orthogonal Procrustes
problem). The two are solved in turn, from a random rotation. A code is the sign of (x - mean) E R.

Whether features are scaled to length 1 first is not stated, and ``normalise`` does it. Labels are not used; B is what
encoding gives for the training photos, so there is no learned gallery; the recipe's head is not used.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.errors import ConfigError
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
    """The orthogonal R, (c, c), with the smallest ||B - Y R||; Y ``projected`` and B ``signs``, both (n, c)."""
    left, _, right = torch.linalg.svd(projected.T @ signs)
    rotation: Tensor = left @ right
    return rotation


def solve_rotation(projected: Tensor, rotation: Tensor, iterations: int) -> Tensor:
    """Solve the codes and the rotation in turn; a zero logit's sign is -1, as in `milvus_fghash.core.codes.pack`.

    Args:
        projected: (n, c) centred features on their principal axes.
        rotation: (c, c) orthogonal, to start from.
        iterations: how often.

    Returns:
        (c, c) orthogonal.
    """
    for _ in range(iterations):
        signs = (projected @ rotation > 0).to(projected) * 2 - 1
        rotation = nearest_rotation(projected, signs)
    return rotation


class Method(LearnsNothing):
    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, sizes)
        if sizes.n_bits > min(backbone.n_features, sizes.n_train - 1):
            raise ConfigError(
                f"itq needs a principal axis for each of {sizes.n_bits} bits; {sizes.n_train} training photos with "
                f"{backbone.n_features} features have {min(backbone.n_features, sizes.n_train - 1)}. "
                "Use fewer bits, more photos, or the method sh"
            )
        self.config = config
        self.head: Projection = Projection(backbone.n_features, sizes.n_bits, config.normalise)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        centred, bits = self.head.fit(features), self.sizes.n_bits
        axes = principal_axes(centred, bits)
        random = torch.randn(bits, bits, generator=generator(self.config.seed), dtype=torch.float64)
        start = torch.linalg.qr(random).Q.to(centred)
        rotation = solve_rotation(centred @ axes, start, self.config.iterations)
        self.head.weight.copy_((axes @ rotation).T)
