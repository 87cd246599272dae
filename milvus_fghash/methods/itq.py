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

from torch import Tensor

from milvus_fghash.methods.affine import ItqConfig as Config
from milvus_fghash.methods.affine import fit_itq
from milvus_fghash.methods.base import Backbone, LearnsNothing, Sizes
from milvus_fghash.methods.projections import Projection
from milvus_fghash.recipes.schema import HeadChoice

__all__ = ["Config", "Method"]


class Method(LearnsNothing):
    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, sizes)
        self.config = config
        self.head: Projection = Projection(backbone.n_features, sizes.n_bits, config.normalise)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        self.head.load(fit_itq(features.cpu().numpy(), self.sizes.n_bits, self.config))
