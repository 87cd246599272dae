"""SDH: supervised discrete hashing (Shen, Shen, Liu & Shen, CVPR 2015).

Codes that a linear classifier can read and that kernel features of the photos can predict:

    min_{B, W, P} ||Y - B W||^2 + lambda ||W||^2 + nu ||B - Phi P||^2 ,  B in {-1, +1}^{n x c},

with Y the one-hot labels and Phi_ij = exp(-||x_i - a_j||^2 / sigma) for anchors a_j drawn from the training photos.
Starting from random codes, each of W, P and B (bit by bit) is set in turn to its optimum with the others fixed.

Differs from the paper: P is solved once more after the last codes. Not stated there, so decided here: Phi's columns are
centred (the authors' code has a constant column), and those of the options below that say so. A code is the sign of
(x's row of Phi) P, for training photos as for others: that the method's published results, which are low, encode both
sides is inferred. B itself, which was optimised with the labels, is the learned gallery with ``keep_codes``.
The recipe's head is not used.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, LearnsNothing, Sizes, generator
from milvus_fghash.methods.projections import Centred, Projection
from milvus_fghash.recipes.schema import HeadChoice, Seed

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class Config(Frozen):
    anchors: Count = 1000
    """Training photos, drawn at random, that the kernel compares with; all where there are fewer."""
    width: Positive = 1.0
    """sigma over the mean squared distance of photos and anchors. Not stated; the authors' code has a constant."""
    kernel_ridge: Positive = 1e-6
    """Added to the diagonal of Phi^T Phi, which may be singular. None in the paper, 0.01 in the authors' code."""
    ridge: Positive = 1.0
    """lambda, on the weights that read labels from codes."""
    nu: Positive = 1e-5
    """Weight of the codes' distance to what the kernel features predict."""
    iterations: Count = 5
    """How often the three are solved in turn."""
    passes: Count = 10
    """Sweeps over the bits in one solution for the codes, unless one changes nothing before."""
    normalise: bool = False
    """Scale each photo's features to length 1 first. Not stated; the authors' constant sigma is for such features."""
    keep_codes: bool = False
    """Keep B, to be searched as the learned gallery."""
    seed: Seed = 0
    """Seed of the anchors and of the random codes."""


def solve_labels(signs: Tensor, labels: Tensor, n_classes: int, ridge: float) -> Tensor:
    """W, (c, n_classes): the ridge regression from codes, (n, c), to the one-hot form of ``labels``, (n,)."""
    per_class = signs.new_zeros(n_classes, signs.shape[1]).index_add_(0, labels, signs)
    gram = signs.T @ signs
    gram.diagonal().add_(ridge)
    weight: Tensor = torch.linalg.solve(gram, per_class.T)
    return weight


def solve_codes(signs: Tensor, pull: Tensor, weight: Tensor, passes: int) -> Tensor:
    """B bit by bit, each column at its optimum with the others fixed, until a sweep changes nothing.

    Args:
        signs: (n, c) codes before the step.
        pull: (n, c) Y W^T + nu Phi P.
        weight: (c, n_classes) W.
        passes: sweeps at most.

    Returns:
        (n, c) new codes; where both values are equally good, +1.
    """
    overlap = weight @ weight.T
    overlap.fill_diagonal_(0)  # leaves the column itself out of the sum over the others
    for _ in range(passes):
        solved = signs.clone()
        for k in range(signs.shape[1]):
            slope = pull[:, k] - solved @ overlap[:, k]
            solved[:, k] = torch.where(slope >= 0, 1.0, -1.0)
        if torch.equal(solved, signs):
            break
        signs = solved
    return signs


class Kernel(Centred):
    """x -> exp(-||x - a_j||^2 / sigma) for each anchor: (b, n_features) -> (b, n_anchors)."""

    anchors: Tensor
    """(n_anchors, n_features), scaled and centred."""
    sigma: Tensor

    def __init__(self, n_features: int, n_anchors: int, normalise: bool) -> None:
        super().__init__(n_features, normalise)
        self.register_buffer("anchors", torch.zeros(n_anchors, n_features))
        self.register_buffer("sigma", torch.ones(()))

    def distances(self, features: Tensor) -> Tensor:
        """Squared distances, (b, n_anchors)."""
        # In this form no (b, n_anchors, n_features) differences are held. It loses the digits that all x share, and
        # there are none after centring.
        x = super().forward(features)
        lengths = x.square().sum(dim=1, keepdim=True) + self.anchors.square().sum(dim=1)
        return lengths - 2 * x @ self.anchors.T

    def forward(self, features: Tensor) -> Tensor:
        return torch.exp(-self.distances(features) / self.sigma)


class KernelHead(nn.Module):
    """x -> (phi(x) - its mean) P."""

    def __init__(self, kernel: Kernel, n_bits: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.bits = Projection(len(kernel.anchors), n_bits)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.bits(self.kernel(features))
        return logits


class Method(LearnsNothing):
    learned_source = "B"
    signs: Tensor | None
    """B, (n_train, c)."""

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, sizes)
        self.config = config
        kernel = Kernel(backbone.n_features, min(config.anchors, sizes.n_train), config.normalise)
        self.head: KernelHead = KernelHead(kernel, sizes.n_bits)
        kept = torch.zeros(sizes.n_train, sizes.n_bits) if config.keep_codes else None
        self.register_buffer("signs", kept)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        config, kernel, random = self.config, self.head.kernel, generator(self.config.seed)
        centred = kernel.fit(features)
        drawn = torch.randperm(len(features), generator=random)[: len(kernel.anchors)]
        kernel.anchors.copy_(centred[drawn.to(centred.device)])
        kernel.sigma.copy_(config.width * kernel.distances(features).mean())
        phi = self.head.bits.fit(kernel(features))  # in float64: Phi^T Phi squares what is nearly dependent
        gram = phi.T @ phi
        gram.diagonal().add_(config.kernel_ridge)
        factor = torch.linalg.cholesky(gram)

        signs = (torch.randint(0, 2, (len(phi), self.sizes.n_bits), generator=random) * 2.0 - 1.0).to(phi)
        projection = torch.cholesky_solve(phi.T @ signs, factor)
        for _ in range(config.iterations):
            weight = solve_labels(signs, labels, self.sizes.n_classes, config.ridge)
            signs = solve_codes(signs, weight.T[labels] + config.nu * phi @ projection, weight, config.passes)
            projection = torch.cholesky_solve(phi.T @ signs, factor)
        self.head.bits.weight.copy_(projection.T)
        if self.signs is not None:
            self.signs.copy_(signs)

    def learned_codes(self, labels: Tensor) -> Tensor | None:
        return self.signs
