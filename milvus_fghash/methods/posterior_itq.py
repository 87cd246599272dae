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

f(x) are the features in the space in which clusters are sought, of length 1. Where every photo has one class, that
space is sought in features that have length 1 and are not standardised: standardised ones find new classes worse where
few are known. f(x) tells apart photos of classes that no head knows. Its weight w is chosen on held-out training photos
(`posterior_weight`): the features cost little and help much where there are few classes, and the other way round where
there are many. Where photos without labels are fitted on, clusters stand for new classes, and w is low. Everything is
chosen on training photos alone.

A head is a matrix of (classes + clusters) x features. All that is exported beside the backbone, the map of f(x) and the
bits included, should be at most half as large as the backbone, and 10 MB. Where it would be larger, the heads share a
linear map to fewer dimensions; where that is not enough, there are fewer heads, and fewer clusters.

Fewer photos without labels are likely to be fewer of each class, and a cluster of several classes tells less than the
features: below 3,000 photos clusters are smaller, and w is higher.
"""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor, nn

from milvus_fghash.errors import ConfigError
from milvus_fghash.methods.base import Backbone, Batch, BitSource, BitSources, HashMethod, Round, Sizes, generator
from milvus_fghash.methods.clusters import spherical_kmeans
from milvus_fghash.methods.leading_axes import leading_axes
from milvus_fghash.methods.posterior_code import (
    MAX_FIT_PHOTOS,
    MIN_AXES,
    Config,
    FeatureNorm,
    HeadSize,
    PosteriorCode,
    PosteriorHeads,
    allowed_size,
    fit_code,
    fit_space,
    head_shape,
    most_outputs,
    sample,
    train_briefly,
)
from milvus_fghash.methods.posterior_weight import chosen_weight
from milvus_fghash.methods.projections import principal_axes, reject_equal
from milvus_fghash.recipes.schema import HeadChoice

MANY_PHOTOS: Final = 3_000
"""From this number of photos on, clusters of unlabelled ones are of the usual size, and w beside them is low."""
USUAL_CLUSTER, LEAST_CLUSTER = 12.0, 4.0
"""Mean numbers of photos of a cluster."""
LOW_WEIGHT, HIGH_WEIGHT = 0.5, 1.4
"""w where clusters stand for the classes that are not known."""
MIN_CLUSTERS, MAX_CLUSTERS = 64, 4_096
"""Clusters of more photos; the first also where the head is larger with them than it should be."""


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
        size = HeadSize(backbone.n_features, min(config.axes, backbone.n_features), sizes.n_bits)
        allowed = allowed_size(backbone)
        fit = max(MIN_CLUSTERS, most_outputs(size, allowed) - sizes.n_classes)
        few = max(2, round(sizes.n_unlabelled / (config.photos_per_cluster or usual_cluster(sizes.n_train))))
        self.n_clusters = min(few, sizes.n_unlabelled, MAX_CLUSTERS, fit)
        n_outputs = sizes.n_classes + self.n_clusters
        heads, rank = head_shape(size, allowed, n_outputs, config.heads)
        self.register_buffer("targets", torch.zeros(sizes.n_train, heads, dtype=torch.int64))
        classifiers = PosteriorHeads(backbone.n_features, n_outputs, heads, rank, config)
        norm = FeatureNorm(backbone.n_features, by_batch=not head.standardise)
        if sizes.label_sets is not None:
            of_sets = F.normalize(sizes.label_sets.float(), p=1, dim=1)
            shares = torch.block_diag(of_sets, torch.eye(self.n_clusters))  # type: ignore[no-untyped-call]
            self.register_buffer("shares", shares, persistent=False)
        all_known = not sizes.n_unlabelled and sizes.label_sets is None
        self.head: PosteriorCode = PosteriorCode(
            norm, backbone.n_features, sizes.n_bits, classifiers, config, all_known=all_known
        )

    def fit(self, features: Tensor, labels: Tensor) -> None:
        code, config = self.head, self.config
        reject_equal(features)
        code.standardise.fit(features)
        standard = code.standardise(features)
        fit_space(code, features, labels, config)
        if isinstance(code.heads.reduce, nn.Linear):
            axes = principal_axes(sample(standard, config.seed).double(), code.heads.reduce.out_features)
            with torch.no_grad():
                code.heads.reduce.weight.copy_(axes.T)
        self.targets[:] = labels[:, None]
        unlabelled = (labels < 0).nonzero()[:, 0]
        if not len(unlabelled):
            return
        found = code.located(features[unlabelled])
        self.targets[unlabelled] = self._clusters(found, 0)
        for number in range(1, config.clusterings if len(unlabelled) == len(labels) else 1):
            train_briefly(code.heads, standard, self.targets, config.label_smoothing, config.seed + number)
            with torch.no_grad():
                found = leading_axes(code.posteriors, features, MIN_AXES, config.seed).projected.float()
            self.targets[unlabelled] = self._clusters(F.normalize(found), number)
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
        return self.head.posteriors(features)

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
        if any(weight.requires_grad for weight in self.backbone.parameters()):  # they are not as `fit` saw them
            fit_space(self.head, features, at.labels, self.config)
        if self.config.feature_weight is not None:
            weight = self.config.feature_weight
        elif self.head.all_known:
            weight = chosen_weight(self.head, features, at.labels, self.config)
        elif self.sizes.n_unlabelled:
            weight = weight_beside_clusters(self.sizes.n_train)
        else:
            weight = LOW_WEIGHT
        fit_code(self.head, sample(features, self.config.seed), weight, self.config)


def usual_cluster(n_train: int) -> float:
    """Mean number of photos of a cluster, for this number of training photos."""
    return USUAL_CLUSTER * min(1.0, max(LEAST_CLUSTER / USUAL_CLUSTER, math.sqrt(n_train / MANY_PHOTOS)))


def weight_beside_clusters(n_train: int) -> float:
    """w where photos without labels are fitted on, for this number of training photos."""
    return min(HIGH_WEIGHT, LOW_WEIGHT * max(1.0, math.sqrt(MANY_PHOTOS / n_train)))
