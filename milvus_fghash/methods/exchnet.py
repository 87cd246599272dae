"""ExchNet: local features, aligned over a class and exchanged with its means (Cui et al., ECCV 2020).

    u = tanh(head([f_1, ..., f_M, g]))          f_j, g and the maps F_j: `parts.py`
    p_j = softmax over places of the channel mean of F_j;  q_j = softmax over channels of f_j
    H(p, q) = || sqrt p - sqrt q || / sqrt 2                              (Hellinger)
    spatial = 1 - mean over pairs of H(p_j, p_l);  channel = max(0, t - mean over pairs of H(q_j, q_l))

Both are averaged over the batch and added to the ADSH term of `baseline.py`. In the last rounds class means C_yj of f_j
over the whole training set are used, from the network at the end of the previous round: alignment,
||f_j - C_yj|| over all parts and photos of the batch, divided by the photos; and each f_j is replaced by C_yj with
probability 1/2 before the head. A code is made without exchange.

Follows the re-implementation by the same group, in the constants too: there is no quantisation term (``gamma`` brings
it back, in loss and code step), and 35 of 40 or 40 of 50 rounds pass before the exchange. Differs from it: parts are
aligned as they are before the exchange, not after, where those that were replaced are their means and add nothing; with
``normalise`` the head sees each part, and g, scaled to length 1, as in the first form of A2-Net (`a2net.py`). The other
terms see them as they are.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from pydantic import Field
from torch import Tensor

from milvus_fghash.methods import baseline
from milvus_fghash.methods.base import Backbone, Batch, Round, Sizes
from milvus_fghash.methods.class_codes import class_means
from milvus_fghash.methods.heads import HashHead
from milvus_fghash.methods.parts import PartsNetwork, reject_standardise
from milvus_fghash.recipes.schema import Fraction, HeadChoice


class Config(baseline.Config):
    gamma: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the quantisation term; 0 leaves it out."""
    n_maps: Annotated[int, Field(ge=2)] = 4
    """M: how many parts."""
    normalise: bool = False
    """Scale each part, and g, to length 1 before the head."""
    spatial: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the pull of the parts to different places."""
    channel: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the pull of the parts to different channels."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.4
    """t: how far apart in channels the parts should be."""
    alignment: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the pull to the class means, once the exchange has begun."""
    exchange_from: Annotated[float, Field(ge=0, le=1)] = 0.875
    """Share of the rounds that pass before the exchange begins; 1 leaves alignment and exchange out."""
    exchanged: Fraction = 0.5
    """Probability that a part is replaced."""


def hellinger(logits: Tensor) -> Tensor:
    """Mean distance of the pairs of M distributions, each the softmax of its logits: (b, M, k) -> (b,) in [0, 1]."""
    # The root of a softmax has an infinite slope where it rounds to 0; half its logarithm has not.
    roots = torch.exp(F.log_softmax(logits, dim=2) / 2)
    first, second = torch.triu_indices(logits.shape[1], logits.shape[1], offset=1, device=logits.device)
    apart: Tensor = torch.linalg.vector_norm(roots[:, first] - roots[:, second], dim=2)
    return apart.mean(dim=1) / math.sqrt(2)


class NormalisingHead(HashHead):
    """A head that scales each part, and g, to length 1 first: (b, n_parts n_features) -> (b, n_bits)."""

    def __init__(self, choice: HeadChoice, n_parts: int, n_features: int, n_bits: int) -> None:
        super().__init__(choice, n_parts * n_features, n_bits)
        self.n_parts = n_parts

    def forward(self, features: Tensor) -> Tensor:
        features = F.normalize(torch.unflatten(features, 1, (self.n_parts, -1)), dim=2).flatten(1)
        for layer in self:
            features = layer(features)
        return features


class Method(baseline.Method):
    config: Config

    def __init__(self, backbone: Backbone, head: HeadChoice, sizes: Sizes, config: Config) -> None:
        reject_standardise(head, "exchnet")
        super().__init__(backbone, head, sizes, config)
        self.parts = PartsNetwork(backbone, config.n_maps)
        n_parts = config.n_maps + 1
        if config.normalise:
            self.head = NormalisingHead(head, n_parts, backbone.n_features, sizes.n_bits)
        else:
            self.head = HashHead(head, n_parts * backbone.n_features, sizes.n_bits)
        self.features_key = f"parts-{config.n_maps}"
        self.embedding_key = "anchor+heat"

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.parts(self.backbone, images).features
        return features.flatten(1)

    def embed(self, images: Tensor) -> dict[str, Tensor]:
        parts = self.parts(self.backbone, images)
        return {"anchor": parts.features.flatten(1), "heat": parts.maps.mean(dim=2).flatten(2)}

    def attentions(self, images: Tensor) -> Tensor:
        return self.parts.look(self.backbone, images)

    def before_round(self, at: Round) -> None:
        super().before_round(at)
        exchanging = at.number >= int(self.config.exchange_from * at.rounds)
        self.means = (
            class_means(self._local(at.centre_crop_features()), at.labels, self.sizes.n_classes) if exchanging else None
        )

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        features, config = batch.features["anchor"], self.config
        local = self._local(features)
        extra = {
            "spatial": config.spatial * (1 - hellinger(batch.features["heat"])).mean(),
            "channel": config.channel * F.relu(config.threshold - hellinger(local)).mean(),
        }
        if self.means is not None:
            means = self.means[batch.labels]
            extra["alignment"] = config.alignment * torch.linalg.vector_norm(local - means) / len(local)
            replaced = torch.rand(local.shape[:2], device=local.device) < config.exchanged
            mixed = torch.where(replaced.unsqueeze(2), means, local).flatten(1)
            features = torch.cat([mixed, features[:, mixed.shape[1] :]], dim=1)
        return self.anchor_loss(torch.tanh(self.head(features).float()), batch) | extra

    def _local(self, features: Tensor) -> Tensor:
        """The parts of (b, (M + 1) n_features), without the whole: (b, M, n_features)."""
        return features.view(len(features), self.config.n_maps + 1, -1)[:, :-1]
