"""The encoder's features of a sample, of as many photos as fit into a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from milvus_fghash.advice.sample import sample_order
from milvus_fghash.core.callbacks import Progress
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.methods.base import Backbone, Sizes
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.backbones import chosen_backbone, with_own_preprocessing
from milvus_fghash.training.checkpoint import build_method
from milvus_fghash.training.feature_cache import FeatureCache
from milvus_fghash.training.photos import Photos

FEWEST_IN_TIME: Final = 300
"""Photos that are measured on even where the time is too short for them."""


@dataclass(frozen=True)
class SampleFeatures:
    """Features of a sample.

    Attributes:
        rows: (n,) photos of the sample whose features these are, ascending: all, unless the time was too short.
        features: (1 + views, n, n_features), the centre crop first; views are 0 unless the cache had them.
        backbone: the encoder.
        seconds_per_photo: how long a photo took; None if all features were in the cache.
    """

    rows: NDArray[np.int64]
    features: Tensor
    backbone: Backbone
    seconds_per_photo: float | None


def sample_features(
    recipe: Recipe, sample: Dataset, folder: Path, device: torch.device, seconds: float, progress: Progress
) -> SampleFeatures:
    """Compute the features of the centre crops, of as many photos as fit into the time.

    Augmented views are only taken from the cache: computing them would take several times as long, and classifiers of a
    frozen encoder's features gain little by them.

    Args:
        recipe: of a method that works on pooled features. Its seed is that of the sample of fewer photos, its views are
            those that the cache may have.
        sample: photos that can be decoded.
        folder: of the cache.
        device: of the encoder.
        seconds: that this may take.
        progress: called with the number of photos computed, and their total.

    Raises:
        ConfigError: when the backbone or its weights do not exist.
    """
    torch.manual_seed(recipe.training.seed)
    recipe = with_own_preprocessing(recipe)
    backbone = chosen_backbone(recipe.backbone, recipe.preprocessing.size)
    method = build_method(recipe.method, recipe.head, backbone, Sizes(64, 2, len(sample))).to(device)
    order = sample_order(sample.labels, recipe.training.seed)

    def cache(views: int, rows: NDArray[np.int64]) -> FeatureCache:
        photos = Photos(sample.take(rows), recipe.preprocessing, recipe.augmentation)
        return FeatureCache(method, photos, folder, device, views, recipe.training.workers)

    every = np.arange(len(sample))
    for views in range(recipe.backbone.views, -1, -1):
        if not (cached := cache(views, every)).missing():
            return SampleFeatures(every, cached.read()["anchor"], backbone, None)
    began, done = time.perf_counter(), 0
    centre_crops = cache(0, order)
    fewest = FEWEST_IN_TIME - len(sample) + len(centre_crops.missing())

    def report(now: int, total: int) -> None:
        nonlocal done
        done = now
        progress(done, total)

    centre_crops.fill(report, checked=True, until=lambda: done >= fewest and time.perf_counter() - began > seconds)
    took = (time.perf_counter() - began) / done
    rows = np.sort(np.delete(order, centre_crops.missing()))
    return SampleFeatures(rows, cache(0, rows).read()["anchor"], backbone, took)
