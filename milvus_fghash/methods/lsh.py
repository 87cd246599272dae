"""LSH: random hyperplanes (Charikar, STOC 2002).

A code is the side of c random hyperplanes through the mean of the training features. Differs from the paper: features
are centred first, since features after a ReLU are all positive and most hyperplanes through zero would not split them.
Nothing is learned, so there is no learned gallery; the recipe's head is not used.
"""

from __future__ import annotations

from torch import Tensor

from milvus_fghash.methods.affine import LshConfig as Config
from milvus_fghash.methods.affine import fit_lsh
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
        self.head.load(fit_lsh(features.cpu().numpy(), self.sizes.n_bits, self.config))
