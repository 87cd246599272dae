"""The encoder's features of a sample, within a share of the time: with as many augmented views as fit into it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from milvus_fghash.core.callbacks import Progress
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.methods.base import Backbone, HashMethod, Sizes
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.backbones import chosen_backbone, with_own_preprocessing
from milvus_fghash.training.checkpoint import build_method
from milvus_fghash.training.feature_cache import FeatureCache
from milvus_fghash.training.photos import CENTRE_CROP, Loader, Photos
from milvus_fghash.training.sources import computed_features, embed_anchor, in_batches

TRIED_PHOTOS: Final = 32
"""Photos by which the time of a view is measured."""


@dataclass(frozen=True)
class SampleFeatures:
    """Features of a sample.

    Attributes:
        features: (1 + views, n, n_features), the centre crop first.
        backbone: the encoder.
        seconds_per_view: how long one view took; None if all features were in the cache.
    """

    features: Tensor
    backbone: Backbone
    seconds_per_view: float | None


def sample_features(
    recipe: Recipe, sample: Dataset, folder: Path, device: torch.device, seconds: float, progress: Progress
) -> SampleFeatures:
    """Compute the features; views for which the time is too short are left out, the centre crop never.

    Args:
        recipe: of a method that works on pooled features; its views are the most that are computed.
        sample: photos that can be decoded.
        folder: of the cache.
        device: of the encoder.
        seconds: that this may take.
        progress: called with the number of views computed, and their total.

    Raises:
        ConfigError: when the backbone or its weights do not exist.
    """
    torch.manual_seed(recipe.training.seed)
    recipe = with_own_preprocessing(recipe)
    backbone = chosen_backbone(recipe.backbone, recipe.preprocessing.size)
    method = build_method(recipe.method, recipe.head, backbone, Sizes(64, 2, len(sample))).to(device)
    photos = Photos(sample, recipe.preprocessing, recipe.augmentation)

    def cache(views: int) -> FeatureCache:
        return FeatureCache(method, photos, folder, device, views, recipe.training.workers)

    most = recipe.backbone.views
    for views in range(most, -1, -1):
        if not cache(views).missing():
            return SampleFeatures(cache(views).read()["anchor"], backbone, None)
    took = _seconds_per_view(method, photos, device)
    chosen = cache(max(0, min(most, int(seconds / (took * len(sample))) - 1)))
    chosen.fill(progress, checked=True)
    return SampleFeatures(chosen.read()["anchor"], backbone, took)


def _seconds_per_view(method: HashMethod, photos: Photos, device: torch.device) -> float:
    views = [(row, CENTRE_CROP) for row in range(min(TRIED_PHOTOS, len(photos)))]
    started = time.perf_counter()
    for _ in computed_features(method, embed_anchor(method), Loader(photos, 0), in_batches(views, device), device):
        pass
    return (time.perf_counter() - started) / len(views)
