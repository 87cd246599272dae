"""Heads and code of Posterior-ITQ: the modules, and how the code's parts are fitted. `posterior_itq` is the method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.methods.base import Backbone, generator
from milvus_fghash.methods.heads import Standardise
from milvus_fghash.methods.lda import fit_lda
from milvus_fghash.methods.leading_axes import leading_axes
from milvus_fghash.methods.projections import Projection, principal_axes, solve_rotation
from milvus_fghash.recipes.schema import Fraction, Seed

MAX_FIT_PHOTOS: Final = 50_000
"""Photos on which maps, clusters and the rotation are fitted; of more, a random sample."""
MIN_AXES, AXES_PER_OUTPUT = 256, 4
"""Principal axes that are kept at least, also for fewer bits; fewer where there are fewer than a quarter as many
classes and clusters, since the further axes would take bits from the first."""
SPREAD, STANDARD_SPREAD = 1000, 500
"""Shrinkage of the discriminant analysis, squared, of one class: of features of length 1 and of standardised ones."""
MAX_HEAD_BYTES: Final = 10_000_000
LEAST_RANK, MOST_RANK, CLUSTERED_RANK = 192, 256, 64
"""Dimensions to which heads reduce the features where they do: several heads, any, and where only fewer clusters fit
otherwise."""
PASSES, LEAST_STEPS, BATCH, RATE, DECAY = 20, 430, 128, 0.02, 0.01
"""Training of the heads with which w is chosen and clusters are found: as the recipe's, but shorter."""


class Config(Frozen):
    heads: Annotated[int, Field(gt=0, le=16)] = 4
    """Number of heads, H; fewer where they would weigh more than half the backbone."""
    feature_share: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share of the features that each head sees, drawn at random."""
    dropout: Fraction = 0.3
    """Share of the features that are zero in a training step."""
    label_smoothing: Fraction = 0.1
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Temperature of the softmax."""
    feature_weight: Annotated[float, Field(ge=0)] | None = None
    """w; None: chosen, see `posterior_weight`."""
    axes: Annotated[int, Field(gt=0)] = 256
    """Dimensions of f(x)."""
    shrinkage: Annotated[float, Field(gt=0)] | None = None
    """Shrinkage of the discriminant analysis, see `lda.fit_lda`; None: sqrt(`SPREAD` / number of classes), for the
    fewer classes are known, the more has to be kept of what tells no known classes apart."""
    photos_per_cluster: Annotated[float, Field(ge=2)] | None = None
    """Mean size of the clusters of unlabelled photos; None: 12, and less for fewer than 3,000 training photos, see
    `posterior_itq.usual_cluster`."""
    clusterings: Annotated[int, Field(gt=0)] = 2
    """How often clusters are sought where no photo has a label."""
    iterations: Annotated[int, Field(gt=0)] = 20
    """How often codes and rotation are solved in turn."""
    seed: Seed = 0
    """Seed of the features of each head, the clusters, the held-out photos and the initial rotation."""


class FeatureNorm(Standardise):
    """`Standardise`, in training by the batch's own mean and deviation where ``by_batch``: features of a backbone that
    is trained from scratch soon have others than at the start."""

    def __init__(self, n_features: int, *, by_batch: bool) -> None:
        super().__init__(n_features)
        self.by_batch = by_batch

    def forward(self, features: Tensor) -> Tensor:
        if self.by_batch and self.training:
            return F.batch_norm(features, None, None, training=True)
        return super().forward(features)


class PosteriorHeads(nn.Module):
    """Standardised features -> logits of H heads: (b, n_features) -> (H, b, n_outputs)."""

    seen: Tensor
    """(H, 1, n_inputs), 0 for a feature that the head does not see, else the inverse of the share that it sees."""

    def __init__(self, n_features: int, n_outputs: int, heads: int, rank: int | None, config: Config) -> None:
        super().__init__()
        self.reduce = nn.Linear(n_features, rank, bias=False) if rank else nn.Identity()
        width = rank or n_features
        self.weight = nn.Parameter(torch.zeros(heads, n_outputs, width))
        self.bias = nn.Parameter(torch.zeros(heads, 1, n_outputs))
        self.dropout = config.dropout
        share = config.feature_share if heads > 1 else 1.0
        drawn = torch.rand(heads, 1, width, generator=generator(config.seed, 1)) < share
        self.register_buffer("seen", drawn.float() / share)

    def forward(self, features: Tensor) -> Tensor:
        inputs: Tensor = self.reduce(features).expand(len(self.weight), -1, -1)
        inputs = F.dropout(inputs, self.dropout, self.training)
        return torch.baddbmm(self.bias, inputs, (self.weight * self.seen).transpose(1, 2))

    def reset(self) -> None:
        """As before training."""
        with torch.no_grad():
            self.weight.zero_()
            self.bias.zero_()

    def loss(self, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Sum over the heads of the mean cross entropy.

        Args:
            logits: (H, b, n_outputs).
            targets: (b, H) numbers of outputs, or (b, H, n_outputs) shares.
            smoothing: of the labels.
        """
        wanted = targets.transpose(0, 1).flatten(0, 1)
        return len(logits) * F.cross_entropy(logits.flatten(0, 1), wanted, label_smoothing=smoothing)


class PosteriorCode(nn.Module):
    """Features -> logits of the bits."""

    feature_scale: Tensor
    """w over the deviation of f(x)."""
    all_known: bool
    """Whether each training photo has a class, and only one: then f(x) is found in features of length 1, else in
    standardised ones."""

    def __init__(
        self, norm: FeatureNorm, n_features: int, n_bits: int, heads: PosteriorHeads, config: Config, *, all_known: bool
    ) -> None:
        super().__init__()
        self.standardise = norm
        self.all_known = all_known
        self.heads = heads
        self.space = Projection(n_features, min(config.axes, n_features), normalise=all_known)
        self.temperature = config.temperature
        self.register_buffer("feature_scale", torch.zeros(()))
        n_heads, n_outputs, _ = heads.weight.shape
        self.bits = Projection(n_heads * n_outputs + len(self.space.weight), n_bits)

    def posteriors(self, features: Tensor) -> Tensor:
        """Features (b, n_features) -> roots of the posteriors, (b, H n_outputs), of length 1."""
        logits = self.heads(self.standardise(features)).float()
        roots = F.softmax(logits / self.temperature, dim=2).sqrt() / math.sqrt(len(logits))
        return roots.transpose(0, 1).flatten(1)

    def located(self, features: Tensor) -> Tensor:
        """f(x): features (b, n_features) -> (b, axes) of length 1."""
        return F.normalize(self.space(features if self.all_known else self.standardise(features)))

    def embed(self, features: Tensor) -> Tensor:
        """e(x) and w f(x): features (b, n_features) -> (b, H n_outputs + axes)."""
        return torch.cat([self.posteriors(features), self.feature_scale * self.located(features)], dim=1)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.bits(self.embed(features))
        return logits


@dataclass(frozen=True)
class HeadSize:
    """How large a `PosteriorCode` is, in numbers that it holds.

    Attributes:
        n_features: width of the features.
        n_axes: dimensions of f(x).
        n_bits: code length.
    """

    n_features: int
    n_axes: int
    n_bits: int

    @property
    def fixed(self) -> int:
        """What does not depend on the heads: standardisation, map of f(x), its part of the bits, its scale."""
        return 3 * self.n_features + self.n_axes * (self.n_features + self.n_bits + 1) + 1

    def without_weights(self, heads: int, n_outputs: int) -> int:
        """The whole but for what grows with the dimensions that the heads see."""
        return self.fixed + heads * n_outputs * (self.n_bits + 2)

    def of(self, heads: int, n_outputs: int, rank: int | None) -> int:
        """The whole with this number of heads, their outputs, and the dimensions to which they reduce the features."""
        weights = heads * (n_outputs + 1) * (rank or self.n_features)
        return self.without_weights(heads, n_outputs) + weights + self.n_features * (rank or 0)


def allowed_size(backbone: Backbone) -> int:
    """Numbers that a head may hold: half as many as the backbone, and no more than `MAX_HEAD_BYTES`."""
    weights = sum(weight.numel() for weight in backbone.parameters())
    return min(weights // 2 or MAX_HEAD_BYTES // 4, MAX_HEAD_BYTES // 4)


def head_shape(size: HeadSize, allowed: int, n_outputs: int, most_heads: int) -> tuple[int, int | None]:
    """Number of heads, and the dimensions to which they reduce the features first (None: not at all).

    All heads on all features, if they fit; else as many as fit with `LEAST_RANK` dimensions; else a single one.
    """
    if size.of(most_heads, n_outputs, None) <= allowed:
        return most_heads, None
    least, most = (min(rank, size.n_features * 3 // 4) for rank in (LEAST_RANK, MOST_RANK))
    for heads in range(most_heads, 0, -1):
        room = allowed - size.without_weights(heads, n_outputs)
        rank = min(most, room // (size.n_features + heads * (n_outputs + 1)))
        if rank >= least:
            return heads, rank
    return 1, max(rank, 8)


def most_outputs(size: HeadSize, allowed: int) -> int:
    """Outputs of a single head of `CLUSTERED_RANK` dimensions that fit."""
    room = allowed - size.fixed - CLUSTERED_RANK * (size.n_features + 1)
    return max(0, room // (CLUSTERED_RANK + size.n_bits + 2))


@torch.no_grad()
def fit_space(code: PosteriorCode, features: Tensor, labels: Tensor, config: Config) -> None:
    """Fill the map of f(x): discriminant analysis where a class has two photos, else principal axes."""
    numerator = SPREAD if code.all_known else STANDARD_SPREAD
    rows = sample_rows(len(features), config.seed)
    known = labels[rows]
    counts = torch.bincount(known[known >= 0])
    centred = code.space.fit(features[rows] if code.all_known else code.standardise(features[rows]))
    n_axes = len(code.space.weight)
    if (counts > 1).any():
        shrinkage = config.shrinkage or math.sqrt(numerator / int((counts > 0).sum()))
        mapped = fit_lda(centred.cpu().numpy(), known.cpu().numpy(), n_axes, shrinkage, standardise=False)
        axes = torch.from_numpy(mapped.weight)
    else:
        axes = principal_axes(centred, n_axes)
    code.space.weight[: axes.shape[1]] = axes.T.to(code.space.weight)


@torch.no_grad()
def fit_code(code: PosteriorCode, features: Tensor, weight: float, config: Config) -> None:
    """Set the weight of the features, the principal axes and the rotation, from features (n, n_features)."""
    located = code.located(features)
    spread = (located - located.mean(dim=0)).square().sum(dim=1).mean().sqrt()
    code.feature_scale.copy_(weight / spread.clamp(min=1e-6))
    n_bits = len(code.bits.weight)
    kept = min(MIN_AXES, AXES_PER_OUTPUT * code.heads.weight.shape[1])
    found = leading_axes(code.embed, features, max(n_bits, kept), config.seed)
    width = max(n_bits, found.axes.shape[1])
    random = torch.randn(width, width, generator=generator(config.seed, 4), dtype=torch.float64)
    start = torch.linalg.qr(random).Q[: found.axes.shape[1], :n_bits].to(found.axes)
    rotation = solve_rotation(found.projected, start, config.iterations)
    code.bits.mean.copy_(found.mean)
    code.bits.weight.copy_((found.axes @ rotation).T)


def train_briefly(heads: PosteriorHeads, standard: Tensor, targets: Tensor, smoothing: float, seed: int) -> None:
    """Train heads from zero on standardised features (n, d); targets as in `PosteriorHeads.loss`."""
    random = generator(seed, 5)
    heads.reset()
    heads.train()
    optimiser = torch.optim.SGD(heads.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=DECAY)
    steps = math.ceil(len(standard) / BATCH)
    passes = max(PASSES, math.ceil(LEAST_STEPS / steps))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, passes * steps)
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):  # dropout draws from torch's own generator
        torch.manual_seed(seed)
        for _ in range(passes):
            order = torch.randperm(len(standard), generator=random).to(standard.device)
            for rows in torch.split(order, BATCH):
                optimiser.zero_grad(set_to_none=True)
                heads.loss(heads(standard[rows]), targets[rows], smoothing).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
    heads.eval()


def sample_rows(n: int, seed: int) -> Tensor:
    """All rows, or `MAX_FIT_PHOTOS` of them at random."""
    if n <= MAX_FIT_PHOTOS:
        return torch.arange(n)
    return torch.randperm(n, generator=generator(seed, 3))[:MAX_FIT_PHOTOS].sort().values


def sample(rows: Tensor, seed: int) -> Tensor:
    """The rows of `sample_rows`."""
    return rows[sample_rows(len(rows), seed).to(rows.device)]
