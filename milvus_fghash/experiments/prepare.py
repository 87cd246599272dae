"""Before the first training: see that every method can be built, and compute a frozen trunk's features once.

The process that runs the grid does it, so that workers find the features and none computes them again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from milvus_fghash.experiments.cells import GridContext, Task
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.backbones import StagedTrunk, build_trunk
from milvus_fghash.training.checkpoint import build_method
from milvus_fghash.training.feature_cache import FeatureCache
from milvus_fghash.training.loop import reproducible
from milvus_fghash.training.photos import Photos, check_all
from milvus_fghash.training.run import check_classes


def prepare(tasks: Sequence[Task], bench: GridContext, report: Callable[[int, int, str], None]) -> None:
    """Build each kind of method that the tasks need, read every photo; with a frozen trunk, fill the cache.

    Raises:
        ConfigError: when options or code length do not fit a method, or weights do not fit the trunk.
        DataError: when a photo cannot be decoded, or a method has no classes to learn from.
    """

    def told(done: int, total: int) -> None:
        report(done, total, "features of the frozen trunk")

    def checked(done: int, total: int) -> None:
        report(done, total, "photos checked")

    trunks: dict[str, StagedTrunk] = {}
    seen: set[str] = set()
    caches: list[FeatureCache] = []
    unread: list[tuple[Photos, Sequence[int]]] = []
    """Photos that nobody has decoded yet."""
    workers = 0
    for task in tasks:
        recipe, split = task.recipe, bench.splits[task.part]
        check_classes(split.gallery, recipe)
        # A trunk without weights starts at random, so each seed has a trunk, and features, of its own.
        origin = _key(recipe.trunk.name, recipe.trunk.weights, _seed_of_trunk(recipe))
        if not _new(seen, task.part, task.bits, origin, _without_seeds(recipe)):
            continue
        with reproducible(recipe.training.deterministic):
            torch.manual_seed(recipe.training.seed)
            if origin not in trunks:
                trunks[origin] = build_trunk(recipe.trunk.name, recipe.trunk.weights)
            method = build_method(recipe, task.bits, trunks[origin], len(split.gallery.classes), len(split.gallery))
        workers = max(workers, recipe.training.workers)
        for dataset, plain in ((split.gallery, False), (split.queries, True)):
            photos = Photos(dataset, recipe.preprocessing, recipe.augmentation)
            if not recipe.trunk.frozen:
                if _new(seen, task.part, plain):
                    unread.append((photos, range(len(photos))))
                continue
            made_by = (method.representation, *(() if plain else (method.embedding, method.wants_views)))
            views = (recipe.preprocessing.model_dump(), recipe.augmentation.model_dump(), recipe.trunk.views)
            if _new(seen, task.part, origin, plain, *made_by, *views):
                method.to(bench.torch_device)
                caches.append(FeatureCache(method, photos, recipe, bench.cache, bench.torch_device, plain))
                unread.append((photos, caches[-1].missing()))
    # All of them before hours of work that would end with a photo that cannot be read.
    check_all(_each_once(unread), workers, checked)
    for features in caches:
        features.fill(told, checked=True)


def _each_once(parts: Sequence[tuple[Photos, Sequence[int]]]) -> list[tuple[Photos, Sequence[int]]]:
    """Without the photos that an earlier part has."""
    met: set[Path] = set()
    left = []
    for photos, rows in parts:
        files = {row: photos.dataset.file(row) for row in rows}
        left.append((photos, [row for row, file in files.items() if file not in met]))
        met.update(files.values())
    return [part for part in left if part[1]]


def _new(seen: set[str], *parts: Any) -> bool:
    """Whether this was not met before; from now on it was."""
    key = _key(*parts)
    met = key in seen
    seen.add(key)
    return not met


def _key(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True)


def _seed_of_trunk(recipe: Recipe) -> int | None:
    return recipe.training.seed if recipe.trunk.frozen and recipe.trunk.weights == "none" else None


def _without_seeds(recipe: Recipe) -> dict[str, Any]:
    values = recipe.model_dump(mode="json")
    values["training"].pop("seed")
    values["method"]["options"].pop("seed", None)
    return values
