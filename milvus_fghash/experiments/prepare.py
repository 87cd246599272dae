"""Before the first training: check that every method can be built, and compute the features of a frozen backbone once.

This runs in the grid's own process, so that no worker computes the features again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from milvus_fghash.core.callbacks import StageProgress
from milvus_fghash.experiments.cells import GridContext, Task
from milvus_fghash.methods.base import Backbone, Sizes
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.backbones import chosen_backbone
from milvus_fghash.training.checkpoint import build_method
from milvus_fghash.training.device import reproducible
from milvus_fghash.training.feature_cache import FeatureCache
from milvus_fghash.training.photos import Photos, check
from milvus_fghash.training.training_set import check_classes, named_classes


def prepare(tasks: Sequence[Task], context: GridContext, progress: StageProgress) -> None:
    """Build each kind of method that the tasks need, read every photo; with a frozen backbone, fill the feature cache.

    Raises:
        ConfigError: when options or the code length do not fit a method, or weights do not fit the backbone.
        DataError: when a photo cannot be decoded, or there are too few classes for a method.
    """

    def filled(done: int, total: int) -> None:
        progress(done, total, "features of the frozen backbone")

    def checked(done: int, total: int) -> None:
        progress(done, total, "photos checked")

    backbones: dict[str, Backbone] = {}
    seen: set[str] = set()
    caches: list[FeatureCache] = []
    unread: list[tuple[Photos, Sequence[int]]] = []
    """Photos that were not decoded yet."""
    workers = 0
    for task in tasks:
        recipe, split = task.recipe, context.splits[task.phase]
        check_classes(split.fitted, recipe.method.name)
        # A backbone without weights starts at random, so each seed has a backbone, and features, of its own.
        origin = _key(recipe.backbone.name, recipe.backbone.weights, _seed_of_backbone(recipe))
        if not _new(seen, task.phase, task.bits, origin, _without_seeds(recipe)):
            continue
        with reproducible(recipe.training.deterministic):
            torch.manual_seed(recipe.training.seed)
            if origin not in backbones:
                backbones[origin] = chosen_backbone(recipe.backbone, recipe.preprocessing.size)
            sizes = Sizes.of(task.bits, split.fitted.labels, named_classes(split.fitted))
            method = build_method(recipe.method, recipe.head, backbones[origin], sizes)
        workers = max(workers, recipe.training.workers)
        for part, (dataset, centre_crop_only) in enumerate(((split.fitted, False), (split.others, True))):
            photos = Photos(dataset, recipe.preprocessing, recipe.augmentation)
            if not recipe.backbone.frozen:
                if _new(seen, task.phase, part):
                    unread.append((photos, range(len(photos))))
                continue
            made_by = (method.features_key, *(() if centre_crop_only else (method.embedding_key, method.wants_views)))
            crops = (recipe.preprocessing.model_dump(), recipe.augmentation.model_dump(), recipe.backbone.views)
            if _new(seen, task.phase, origin, part, *made_by, *crops):
                method.to(context.torch_device)
                folder, device, views = context.cache, context.torch_device, recipe.backbone.views
                caches.append(
                    FeatureCache(method, photos, folder, device, views, recipe.training.workers, centre_crop_only)
                )
                unread.append((photos, caches[-1].missing()))
    # Before hours of training, which would fail at a photo that cannot be read.
    check(_each_once(unread), workers, checked)
    for features in caches:
        features.fill(filled, checked=True)


def _each_once(parts: Sequence[tuple[Photos, Sequence[int]]]) -> list[tuple[Photos, Sequence[int]]]:
    """The same photos, each only in the first part that has it."""
    seen: set[Path] = set()
    distinct = []
    for photos, rows in parts:
        files = {row: photos.dataset.file(row) for row in rows}
        distinct.append((photos, [row for row, file in files.items() if file not in seen]))
        seen.update(files.values())
    return [part for part in distinct if part[1]]


def _new(seen: set[str], *parts: Any) -> bool:
    """Whether this combination is new; adds it to ``seen``."""
    key = _key(*parts)
    if key in seen:
        return False
    seen.add(key)
    return True


def _key(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True)


def _seed_of_backbone(recipe: Recipe) -> int | None:
    return recipe.training.seed if recipe.backbone.frozen and recipe.backbone.weights == "none" else None


def _without_seeds(recipe: Recipe) -> dict[str, Any]:
    values = recipe.model_dump(mode="json")
    values["training"].pop("seed")
    values["method"]["options"].pop("seed", None)
    return values
