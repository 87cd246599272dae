"""Retrieval of held-out training photos, measured after each round. Test photos are never used in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from milvus_fghash.core.codes import pack
from milvus_fghash.evaluation.metrics import Labels, distance_histogram, mean_average_precision
from milvus_fghash.methods.base import HashMethod
from milvus_fghash.training.feature_cache import FeatureCache
from milvus_fghash.training.photos import Loader, Photos, check
from milvus_fghash.training.sources import Source, centre_crop_features, encode


@dataclass(frozen=True)
class Validation:
    """Photos held out of the training set.

    Attributes:
        features: gives their centre-crop features, (n, n_features), from the network as it is now.
        labels: (n, ...) their labels, and
        gallery_labels: (n_train, ...) those of the training photos, as the metrics compare them.
    """

    features: Callable[[], Tensor]
    labels: Labels
    gallery_labels: Labels


def hold_out(
    method: HashMethod,
    photos: Photos,
    labels: tuple[Labels, ...],
    device: torch.device,
    *,
    workers: int,
    cache: FeatureCache | None,
) -> Validation:
    """Prepare the held-out photos; the features of those in a ``cache`` are computed once.

    Args:
        labels: of the held-out photos and of the training photos, as the metrics compare them.

    Raises:
        DataError: when a photo cannot be read.
        TrainingError: when the cache is damaged.
    """
    if cache:
        features = cache.read_centre_crops()
        return Validation(lambda: features, *labels)
    check([(photos, range(len(photos)))], workers)
    loader = Loader(photos, workers)
    return Validation(lambda: centre_crop_features(method, loader, device), *labels)


@torch.no_grad()
def measure(method: HashMethod, source: Source, labels: Tensor, validation: Validation) -> tuple[str, float]:
    """mAP of the held-out photos among the training photos, and of which codes these have: "learned" or "encoded"."""
    method.eval()
    learned = method.learned_codes(labels)
    if learned is None:
        gallery = encode(method, source.centre_crop_features(), labels.device)
    else:
        gallery = pack(learned.cpu().numpy())
    histogram = distance_histogram(
        encode(method, validation.features(), labels.device),
        validation.labels,
        gallery,
        validation.gallery_labels,
        method.sizes.n_bits,
    )
    return ("encoded" if learned is None else "learned"), mean_average_precision(histogram)
