"""Posterior-ITQ: codes of class and cluster posteriors, which also find new photos and new classes (this project).

Linear classifiers on the features give a photo's posteriors, and the code is the sign of a rotation of their square
roots, beside a share of the features themselves:

    e(x) = ( sqrt p_1(x), ..., sqrt p_H(x) ) / sqrt(H)  and  w f(x) ,      code = sign( (e(x) - mean) E R ) .

The p_h are softmax posteriors of H heads, each on its own random part of the features. Their square roots have length
1, and the inner product of two photos' is the Bhattacharyya coefficient of their posteriors (Hellinger distance). E are
principal axes and R the rotation of ITQ (Gong & Lazebnik, CVPR 2011), found for columns of R that are orthonormal: more
axes than bits are kept, so that at 32 bits no class among a hundred is lost.

Classes are those of labelled photos. Photos without labels are divided into clusters by spherical k-means, anew for
each head, and each cluster counts as a further class of that head. Clusters are sought in the space of a linear
discriminant analysis of the labelled photos; without labels, first among the features, then among the e(x) of a head
trained on these. The heads minimise the cross entropy with label smoothing; a photo of several classes has equal shares
of each as its target.

f(x) are the features in the space in which clusters are sought, of length 1. They tell apart photos of classes that
no head knows. Their weight w is the largest of `WEIGHTS` that costs at most 1.5 % of the mAP among held-out
training photos of known classes, for heads trained on the others: with few classes the features cost little and help
much, with many it is the other way round. With fewer than 40 classes it has a lower bound. Where the catalog's own
unlabelled photos are fitted on, clusters stand for its new classes, and w is that of few features. Everything is chosen
on training photos alone.

A head is a matrix of (classes + clusters) x features. Where the heads would weigh more than half the backbone, there
are fewer of them, and then they share a linear map to fewer dimensions.
"""

from __future__ import annotations

import copy
import math
from typing import Annotated, Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor, nn

from milvus_fghash.core.file_models import Frozen
from milvus_fghash.errors import ConfigError
from milvus_fghash.methods.base import Backbone, Batch, BitSource, BitSources, HashMethod, Round, Sizes, generator
from milvus_fghash.methods.clusters import spherical_kmeans
from milvus_fghash.methods.heads import Standardise
from milvus_fghash.methods.itq import solve_rotation
from milvus_fghash.methods.lda import fit_lda
from milvus_fghash.methods.projections import Projection, principal_axes, reject_equal
from milvus_fghash.recipes.schema import Fraction, HeadChoice, Seed

WEIGHTS: Final = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Candidates for the weight of the features, w."""
LOW_WEIGHT: Final = 0.5
"""w where clusters stand for the classes that are not known."""
FEW_CLASSES, FEW_CLASSES_WEIGHT = 40, 60
"""With fewer classes w is at least `FEW_CLASSES_WEIGHT` / number of classes: their posteriors have so few dimensions
that new classes are found by the features alone, as by ITQ."""
TOLERANCE: Final = 0.015
"""Share of the held-out mAP that the features may cost."""
MAX_FIT_PHOTOS: Final = 50_000
"""Photos on which maps, clusters and the rotation are fitted; of more, a random sample."""
MAX_TRIAL_PHOTOS, MAX_HELD_OUT_CLASSES = 10_000, 200
"""Photos, and classes, with which w is chosen."""
MAX_CLUSTERS: Final = 4_096
MIN_AXES: Final = 256
"""Principal axes that are kept at least, also for fewer bits."""
EXACT_WIDTH: Final = 2_048
"""Width of e(x) up to which the principal axes are exact; beyond, randomised (Halko et al., 2011)."""
MAX_HEAD_BYTES: Final = 10_000_000
PASSES, BATCH, RATE, DECAY = 20, 128, 0.02, 0.01
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
    """w; None: chosen, see above."""
    axes: Annotated[int, Field(gt=0)] = 256
    """Dimensions of f(x)."""
    shrinkage: Annotated[float, Field(gt=0)] | None = None
    """Shrinkage of the discriminant analysis, see `lda.fit_lda`; None: sqrt(500 / number of classes), for the fewer
    classes are known, the more has to be kept of what tells no known classes apart."""
    photos_per_cluster: Annotated[float, Field(ge=2)] = 12.0
    """Mean size of the clusters of unlabelled photos."""
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

    def __init__(self, norm: FeatureNorm, n_features: int, n_bits: int, heads: PosteriorHeads, config: Config) -> None:
        super().__init__()
        self.standardise = norm
        self.heads = heads
        self.space = Projection(n_features, min(config.axes, n_features))
        self.temperature = config.temperature
        self.register_buffer("feature_scale", torch.zeros(()))
        n_heads, n_outputs, _ = heads.weight.shape
        self.bits = Projection(n_heads * n_outputs + len(self.space.weight), n_bits)

    def posteriors(self, standard: Tensor) -> Tensor:
        """Standardised features (b, n_features) -> roots of the posteriors, (b, H n_outputs), of length 1."""
        logits = self.heads(standard).float()
        roots = F.softmax(logits / self.temperature, dim=2).sqrt() / math.sqrt(len(logits))
        return roots.transpose(0, 1).flatten(1)

    def located(self, standard: Tensor) -> Tensor:
        """f(x): standardised features (b, n_features) -> (b, axes) of length 1."""
        return F.normalize(self.space(standard))

    def embed(self, standard: Tensor) -> Tensor:
        """e(x), (b, H n_outputs + axes)."""
        return torch.cat([self.posteriors(standard), self.feature_scale * self.located(standard)], dim=1)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.bits(self.embed(self.standardise(features)))
        return logits


class Method(HashMethod):
    wants_features = True
    bits_come_last = True
    targets: Tensor
    """(n_train, H) int64: for each head the class of a photo, or the number of its label set; from `Sizes.n_labels` on,
    its cluster."""
    shares: Tensor
    """(n_label_sets + clusters, n_outputs), the outputs that each target asks for; only where there are label sets."""

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        super().__init__(backbone, sizes)
        if head.kind != "linear":
            raise ConfigError(
                f"head.kind = {head.kind!r} does not work with Posterior-ITQ, whose heads are linear; use 'linear'"
            )
        self.config = config
        few = max(2, round(sizes.n_unlabelled / config.photos_per_cluster))
        self.n_clusters = min(few, sizes.n_unlabelled, MAX_CLUSTERS)
        n_outputs = sizes.n_classes + self.n_clusters
        heads, rank = head_shape(backbone, n_outputs, config)
        self.register_buffer("targets", torch.zeros(sizes.n_train, heads, dtype=torch.int64))
        classifiers = PosteriorHeads(backbone.n_features, n_outputs, heads, rank, config)
        norm = FeatureNorm(backbone.n_features, by_batch=not head.standardise)
        if sizes.label_sets is not None:
            of_sets = F.normalize(sizes.label_sets.float(), p=1, dim=1)
            shares = torch.block_diag(of_sets, torch.eye(self.n_clusters))  # type: ignore[no-untyped-call]
            self.register_buffer("shares", shares, persistent=False)
        self.head: PosteriorCode = PosteriorCode(norm, backbone.n_features, sizes.n_bits, classifiers, config)

    def fit(self, features: Tensor, labels: Tensor) -> None:
        code, config = self.head, self.config
        reject_equal(features)
        code.standardise.fit(features)
        standard = code.standardise(features)
        fit_space(code, standard, labels, config)
        if isinstance(code.heads.reduce, nn.Linear):
            axes = principal_axes(sample(standard, config.seed).double(), code.heads.reduce.out_features)
            with torch.no_grad():
                code.heads.reduce.weight.copy_(axes.T)
        self.targets[:] = labels[:, None]
        unlabelled = (labels < 0).nonzero()[:, 0]
        if not len(unlabelled):
            return
        found = code.located(standard[unlabelled])
        self.targets[unlabelled] = self._clusters(found, 0)
        for number in range(1, config.clusterings if len(unlabelled) == len(labels) else 1):
            train_briefly(code.heads, standard, self.targets, config.label_smoothing, config.seed + number)
            with torch.no_grad():
                roots = code.posteriors(standard)
            self.targets[unlabelled] = self._clusters(F.normalize(roots - roots.mean(dim=0)), number)
        code.heads.reset()

    def bit_sources(self) -> BitSources:
        """The outputs of all heads; a photo for which one of them is certain has a root of 1 / sqrt(H) there."""
        n_heads, n_outputs, _ = self.head.heads.weight.shape
        n_classes = self.sizes.n_classes
        sources = tuple(
            BitSource("class", number, head) if number < n_classes else BitSource("cluster", number - n_classes, head)
            for head in range(n_heads)
            for number in range(n_outputs)
        )
        weights = self.head.bits.weight[:, : len(sources)]
        of_heads = torch.unflatten(weights * self.head.bits.mean[: len(sources)], 1, (n_heads, n_outputs))
        average = of_heads.sum(dim=2)
        return BitSources(sources, weights / math.sqrt(n_heads) - average.repeat_interleave(n_outputs, dim=1))

    def source_activities(self, features: Tensor) -> Tensor:
        return self.head.posteriors(self.head.standardise(features))

    def _clusters(self, points: Tensor, number: int) -> Tensor:
        """For each head a clustering of points (n, d) of length 1: (n, H) targets."""
        seeds = [(self.config.seed, 2, number, head) for head in range(self.targets.shape[1])]
        numbers = [spherical_kmeans(points, self.n_clusters, generator(*seed), MAX_FIT_PHOTOS) for seed in seeds]
        return self.sizes.n_labels + torch.stack(numbers, dim=1)

    def wanted(self, targets: Tensor) -> Tensor:
        """Rows of `targets` as the loss takes them: numbers (b, H), or shares (b, H, n_outputs) of label sets."""
        return targets if self.sizes.label_sets is None else self.shares[targets]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        code = self.head
        logits = code.heads(code.standardise(batch.features["anchor"])).float()
        return {"classes": code.heads.loss(logits, self.wanted(self.targets[batch.rows]), self.config.label_smoothing)}

    def after_round(self, at: Round) -> None:
        self.eval()
        features = at.centre_crop_features()
        if self.head.standardise.by_batch:
            self.head.standardise.fit(features)
        standard = self.head.standardise(features)
        if any(weight.requires_grad for weight in self.backbone.parameters()):  # they are not as `fit` saw them
            fit_space(self.head, standard, at.labels, self.config)
        if self.config.feature_weight is not None:
            weight = self.config.feature_weight
        elif self.sizes.n_unlabelled or self.sizes.label_sets is not None:
            weight = LOW_WEIGHT
        else:
            weight = chosen_weight(self.head, standard, at.labels, self.config)
        fit_code(self.head, sample(standard, self.config.seed), weight, self.config)


def head_shape(backbone: Backbone, n_outputs: int, config: Config) -> tuple[int, int | None]:
    """Number of heads, and the dimensions to which they reduce the features first (None: not at all)."""
    weights = sum(weight.numel() for weight in backbone.parameters()) * 4 / 2
    allowed = int(min(weights or MAX_HEAD_BYTES, MAX_HEAD_BYTES)) // 4
    heads = min(config.heads, allowed // (n_outputs * backbone.n_features))
    if heads:
        return heads, None
    return 1, max(min(allowed // (n_outputs + backbone.n_features), MIN_AXES), 8)


@torch.no_grad()
def fit_space(code: PosteriorCode, standard: Tensor, labels: Tensor, config: Config) -> None:
    """Fill the map of f(x): discriminant analysis where a class has two photos, else principal axes."""
    rows = sample_rows(len(standard), config.seed)
    known = labels[rows]
    n_axes = len(code.space.weight)
    if (torch.bincount(known[known >= 0]) > 1).any():
        shrinkage = config.shrinkage or math.sqrt(500 / int((torch.bincount(known[known >= 0]) > 0).sum()))
        mapped = fit_lda(standard[rows].cpu().numpy(), known.cpu().numpy(), n_axes, shrinkage)
        code.space.mean.copy_(torch.from_numpy(mapped.mean))
        code.space.weight[: mapped.weight.shape[1]] = torch.from_numpy(mapped.weight.T).to(code.space.weight)
    else:
        centred = code.space.fit(standard[rows])
        axes = principal_axes(centred, n_axes)
        code.space.weight[: axes.shape[1]] = axes.T.to(code.space.weight)


@torch.no_grad()
def fit_code(code: PosteriorCode, standard: Tensor, weight: float, config: Config) -> None:
    """Set the weight of the features, the principal axes and the rotation, from standardised features (n, d)."""
    located = code.located(standard)
    spread = (located - located.mean(dim=0)).square().sum(dim=1).mean().sqrt()
    code.feature_scale.copy_(weight / spread.clamp(min=1e-6))
    centred = code.bits.fit(code.embed(standard))
    n_bits = len(code.bits.weight)
    axes = leading_axes(centred, max(n_bits, MIN_AXES), config.seed)
    width = max(n_bits, axes.shape[1])
    random = torch.randn(width, width, generator=generator(config.seed, 4), dtype=torch.float64)
    start = torch.linalg.qr(random).Q[: axes.shape[1], :n_bits].to(centred)
    rotation = solve_rotation(centred @ axes, start, config.iterations)
    code.bits.weight.copy_((axes @ rotation).T)


def leading_axes(centred: Tensor, count: int, seed: int) -> Tensor:
    """At most ``count`` principal axes of (n, d), without those of no variance: (d, count)."""
    if centred.shape[1] <= EXACT_WIDTH:
        axes = principal_axes(centred, count)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            axes = torch.svd_lowrank(centred, q=min(count, *centred.shape), niter=4)[2]
    variances = (centred @ axes).square().mean(dim=0)
    return axes[:, variances > variances.max() * 1e-8]


def train_briefly(heads: PosteriorHeads, standard: Tensor, targets: Tensor, smoothing: float, seed: int) -> None:
    """Train heads from zero on standardised features (n, d); targets as in `PosteriorHeads.loss`."""
    random = generator(seed, 5)
    heads.reset()
    heads.train()
    optimiser = torch.optim.SGD(heads.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=DECAY)
    n_steps = PASSES * math.ceil(len(standard) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_steps)
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):  # dropout draws from torch's own generator
        torch.manual_seed(seed)
        for _ in range(PASSES):
            order = torch.randperm(len(standard), generator=random).to(standard.device)
            for rows in torch.split(order, BATCH):
                optimiser.zero_grad(set_to_none=True)
                heads.loss(heads(standard[rows]), targets[rows], smoothing).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
    heads.eval()


def chosen_weight(code: PosteriorCode, standard: Tensor, labels: Tensor, config: Config) -> float:
    """The largest of `WEIGHTS` whose mAP among held-out photos is within `TOLERANCE` of the best.

    Args:
        code: with standardised features and f(x) fitted; not changed.
        standard: (n, d) standardised features of the training photos.
        labels: (n,) their class numbers.
        config: options.
    """
    n_classes = int((torch.bincount(labels) > 0).sum())
    least = min(FEW_CLASSES_WEIGHT / n_classes, WEIGHTS[-1]) if n_classes < FEW_CLASSES else WEIGHTS[0]
    kept, held_out = hold_out(labels.cpu(), config.seed)
    if not len(held_out):
        usual: float = 0.6 * (100 / n_classes) ** 0.6  # close to what is chosen with 5 to 100 classes of birds
        return min(max(usual, least), WEIGHTS[-1])
    trial = copy.deepcopy(code)
    targets = labels[kept, None].expand(-1, len(trial.heads.weight))
    train_briefly(trial.heads, standard[kept], targets, config.label_smoothing, config.seed)
    quality: dict[float, float] = {}
    for weight in WEIGHTS:
        fit_code(trial, standard[kept], weight, config)
        codes = torch.where(trial.bits(trial.embed(standard[held_out])) > 0, 1.0, -1.0)
        quality[weight] = leave_one_out_map(codes, labels[held_out])
    best = max(quality.values())
    return max(least, *(weight for weight, reached in quality.items() if reached >= (1 - TOLERANCE) * best))


def hold_out(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on, and a third of each class of at least four photos held out of them; at most
    `MAX_HELD_OUT_CLASSES` classes and `MAX_TRIAL_PHOTOS` photos."""
    random = generator(seed, 6)
    counts = torch.bincount(labels)
    classes = (counts >= 4).nonzero()[:, 0]
    classes = classes[torch.randperm(len(classes), generator=random)][:MAX_HELD_OUT_CLASSES]
    kept, held_out = [labels.new_zeros(0)], [labels.new_zeros(0)]
    for number in classes if len(classes) > 1 else []:
        rows = (labels == number).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=random)][: max(4, MAX_TRIAL_PHOTOS // len(classes))]
        held_out.append(rows[: max(2, len(rows) // 3)])
        kept.append(rows[len(held_out[-1]) :])
    return torch.cat(kept), torch.cat(held_out)


def leave_one_out_map(codes: Tensor, labels: Tensor) -> float:
    """mAP of photos that each ask among all others, codes (n, n_bits) of +1 and -1; ties are in order of their rows,
    which are random within a class, so that longer codes are not favoured for having fewer."""
    places = torch.arange(1, len(codes), device=codes.device)
    total = 0.0
    for rows in torch.split(torch.arange(len(codes), device=codes.device), 512):
        similar = codes[rows] @ codes.T
        similar[torch.arange(len(rows)), rows] = -torch.inf
        order = similar.argsort(dim=1, descending=True, stable=True)[:, :-1]
        relevant = (labels[order] == labels[rows, None]).float()
        precision = relevant.cumsum(dim=1) / places
        total += float(((precision * relevant).sum(dim=1) / relevant.sum(dim=1).clamp(min=1)).sum())
    return float(total / len(codes))


def sample_rows(n: int, seed: int) -> Tensor:
    """All rows, or `MAX_FIT_PHOTOS` of them at random."""
    if n <= MAX_FIT_PHOTOS:
        return torch.arange(n)
    return torch.randperm(n, generator=generator(seed, 3))[:MAX_FIT_PHOTOS].sort().values


def sample(rows: Tensor, seed: int) -> Tensor:
    """The rows of `sample_rows`."""
    return rows[sample_rows(len(rows), seed).to(rows.device)]
