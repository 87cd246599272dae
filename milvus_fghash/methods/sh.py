"""SH: spectral hashing (Weiss, Torralba & Fergus, NIPS 2008).

Bits are eigenfunctions of the graph Laplacian of a uniform distribution over a box. The box is that of the training
features on their first min(c, d) principal axes; along axis i of width R_i, from its lower end y, mode k = 1, 2, ... is

    sin(pi / 2 + k pi y / R_i)   with an eigenvalue that grows with   (k pi / R_i)^2 ,

and the c modes with the smallest eigenvalues are taken over all axes; equal ones in the order of the axes. A code can
be longer than there are features: it then uses higher modes of the same axes. Beyond the box the sine goes on.

Differs from the authors' code: they widen the box by the smallest float and bound k per axis, neither of which changes
a bit (the widest axis alone has c modes below the bound). Whether features are scaled to length 1 first is not stated,
and ``normalise`` does it. Labels are not used, there is no learned gallery, and the recipe's head is not used.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, LearnsNothing, Sizes
from milvus_fghash.methods.projections import Projection, principal_axes
from milvus_fghash.recipes.schema import HeadChoice


class Config(Frozen):
    normalise: bool = False
    """Scale each photo's features to length 1 first."""


def smallest_modes(widths: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Axes and modes of the ``count`` smallest eigenvalues, smallest first.

    Args:
        widths: (p,) of the box along each axis, not all zero; an axis of width zero is never taken.
        count: how many.

    Returns:
        Row in ``widths`` and mode (from 1) of each, both (count,) int64.
    """
    modes = torch.arange(1, count + 1, device=widths.device)  # the widest axis alone would do with these
    order = (modes / widths[:, None]).flatten().argsort(stable=True)[:count]
    return order // count, modes[order % count]


class Harmonics(Projection):
    """x -> cos((x - mean) W^T + phase): the sines above, their angles in one affine map."""

    phase: Tensor

    def __init__(self, n_features: int, n_bits: int, normalise: bool) -> None:
        super().__init__(n_features, n_bits, normalise)
        self.register_buffer("phase", torch.zeros(n_bits))

    def forward(self, features: Tensor) -> Tensor:
        return torch.cos(super().forward(features) + self.phase)


class Method(LearnsNothing):
    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, sizes)
        self.config = config
        self.head: Harmonics = Harmonics(backbone.n_features, sizes.n_bits, config.normalise)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        centred = self.head.fit(features)
        axes = principal_axes(centred, min(self.sizes.n_bits, features.shape[1]))
        projected = centred @ axes
        low, high = projected.amin(dim=0), projected.amax(dim=0)
        chosen, modes = smallest_modes(high - low, self.sizes.n_bits)
        speed = math.pi * modes / (high - low)[chosen]
        self.head.weight.copy_((axes[:, chosen] * speed).T)
        self.head.phase.copy_(-low[chosen] * speed)
