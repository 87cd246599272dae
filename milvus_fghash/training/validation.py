"""How well held-out training photos are found after a round. Test photos are never looked at in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from milvus_fghash.core.codes import pack
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.evaluation.metrics import distance_histogram, mean_average_precision
from milvus_fghash.methods.base import HashMethod
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.encode import encode
from milvus_fghash.training.feature_cache import FeatureCache
from milvus_fghash.training.photos import Loader, Photos, check
from milvus_fghash.training.sources import Source, centre_crop_features


@dataclass(frozen=True)
class Validation:
    """Photos held out of the training set, to measure retrieval after a round."""

    source: Callable[[], Tensor]
    """Gives (n, n_features) centre-crop features of the held-out photos."""
    labels: Tensor


def hold_out(
    method: HashMethod,
    held_out: Dataset,
    classes: tuple[str, ...],
    recipe: Recipe,
    device: torch.device,
    cache: Path,
) -> Validation:
    """Prepare the held-out photos; a frozen backbone computes their features once."""
    photos = Photos(held_out, recipe.preprocessing, recipe.augmentation)
    labels = torch.from_numpy(held_out.label_numbers(classes))
    if recipe.backbone.frozen:
        features = FeatureCache(method, photos, recipe, cache, device, centre_crop_only=True).read_centre_crops()
        return Validation(lambda: features, labels)
    check(photos, range(len(photos)), recipe.training.workers)
    loader = Loader(photos, recipe.training.workers)
    return Validation(lambda: centre_crop_features(method, loader, device), labels)


@torch.no_grad()
def measure(method: HashMethod, source: Source, labels: Tensor, validation: Validation) -> tuple[str, float]:
    """mAP of the held-out photos among the training photos: by their learned codes if there are, else encoded."""
    method.eval()
    learned = method.learned_codes(labels)
    gallery = (
        encode(method, source.centre_crop_features(), labels.device) if learned is None else pack(learned.cpu().numpy())
    )
    histogram = distance_histogram(
        encode(method, validation.source(), labels.device),
        validation.labels.numpy(),
        gallery,
        labels.cpu().numpy(),
        method.sizes.n_bits,
    )
    return ("encoded" if learned is None else "learned"), mean_average_precision(histogram)
