"""Cached features are those of the photos asked for, whatever else was computed before, and computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import DataError, TrainingError
from milvus_fghash.methods.base import HashMethod, Sizes
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training import feature_cache, sources
from milvus_fghash.training.backbones import build_backbone
from milvus_fghash.training.checkpoint import build_method
from milvus_fghash.training.feature_cache import FeatureCache
from milvus_fghash.training.photos import CENTRE_CROP, Loader, Photos
from milvus_fghash.training.run import Watcher, run_training

CPU = torch.device("cpu")
CHANGES = ("preprocessing.size=32", "preprocessing.resize=32", "backbone.frozen=true", "backbone.views=2",
           "training.rounds=1", "training.epochs_per_round=1")  # fmt: skip


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "PHOTOS_PER_SHARD", 5)


def recipe(*changes: str) -> Recipe:
    return load_recipe("demo-fcaenet", [*CHANGES, *changes]).at(12)


def method(plan: Recipe | None = None) -> HashMethod:
    plan = plan or recipe()
    torch.manual_seed(0)
    return build_method(plan.method, plan.head, build_backbone(plan.backbone.name, "none"), Sizes(12, 4, 24))


def cache(
    dataset: Dataset, folder: Path, *, centre_crop_only: bool = False, plan: Recipe | None = None
) -> FeatureCache:
    plan = plan or recipe()
    photos = Photos(dataset, plan.preprocessing, plan.augmentation)
    views = plan.backbone.views
    return FeatureCache(method(plan), photos, folder, CPU, views, centre_crop_only=centre_crop_only)


def computed_views(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Grows by each view that goes through the backbone."""
    seen: list[tuple[int, int]] = []
    real = sources.computed_features

    def watched(
        method: HashMethod, embed: Any, loader: Loader, batches: Sequence[Sequence[tuple[int, int]]], *rest: Any
    ) -> Iterator[dict[str, Tensor]]:
        seen.extend(view for batch in batches for view in batch)
        return real(method, embed, loader, batches, *rest)

    monkeypatch.setattr("milvus_fghash.training.feature_cache.computed_features", watched)
    return seen


def train_photos(drawn_birds: Dataset) -> Dataset:
    return drawn_birds.split("train")


def test_what_is_read_is_what_the_network_gives(drawn_birds: Dataset, tmp_path: Path) -> None:
    dataset = train_photos(drawn_birds)
    whole = cache(dataset, tmp_path)
    features = whole.read()
    assert {name: value.shape[:2] for name, value in features.items()} == {"anchor": (3, 24), "erased": (3, 24)}
    assert len(list(tmp_path.rglob("*.safetensors"))) == 5  # 24 photos by five
    network = whole.method.eval()
    with torch.no_grad():
        for row in (0, 7, 23):
            pixels = whole.photos[row, CENTRE_CROP][None]
            alone = network.embed(network.backbone.normalise(pixels))
            for name, value in features.items():
                torch.testing.assert_close(value[0, row], alone[name][0], atol=1e-3, rtol=1e-3)
            assert not torch.equal(features["anchor"][1, row], features["anchor"][2, row])
    assert torch.equal(whole.read_centre_crops(), features["anchor"][0])


def test_the_choice_and_order_of_photos_change_nothing(
    drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = train_photos(drawn_birds)
    seen = computed_views(monkeypatch)
    some = cache(dataset.take([20, 3, 11]), tmp_path / "grown").read()
    reversed_order = cache(dataset.take(range(23, -1, -1)), tmp_path / "grown").read()
    assert len(seen) == 24 * 3
    at_once = cache(dataset, tmp_path / "at once").read()
    assert len(seen) == 2 * 24 * 3
    for name, value in at_once.items():
        torch.testing.assert_close(reversed_order[name].flip(1), value, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(some[name], value[:, [20, 3, 11]], atol=1e-3, rtol=1e-3)


def test_one_file_under_two_ids_is_two_photos(drawn_birds: Dataset, tmp_path: Path) -> None:
    """Once it was one photo with two rows, and all rows behind it had the features of their neighbours."""
    dataset = train_photos(drawn_birds).take(range(6))
    double = replace(dataset, paths=(dataset.paths[0], dataset.paths[0], *dataset.paths[2:]))
    for _ in range(2):  # computed, then read
        features = cache(double, tmp_path).read()["anchor"]
        assert torch.equal(features[0, 0], features[0, 1])
        assert not torch.equal(features[1:, 0], features[1:, 1])  # views follow from the id
        alone = cache(dataset.take([5]), tmp_path / "alone").read()["anchor"]
        torch.testing.assert_close(features[:, 5], alone[:, 0], atol=1e-3, rtol=1e-3)


def test_the_same_file_under_another_id_has_views_of_its_own(drawn_birds: Dataset, tmp_path: Path) -> None:
    dataset = train_photos(drawn_birds).take(range(3))
    renamed = replace(dataset, ids=("x", "y", "z"))
    first = cache(dataset, tmp_path / "both").read()
    after = cache(renamed, tmp_path / "both").read()
    fresh = cache(renamed, tmp_path / "fresh").read()
    for name in first:
        assert torch.equal(after[name], fresh[name])
        assert not torch.equal(after[name][1:], first[name][1:])


def test_a_kill_loses_one_shard_at_the_most(
    drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = train_photos(drawn_birds)

    def stop(done: int, total: int) -> None:
        assert total == 72
        if done > 40:  # in the third shard
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache(dataset, tmp_path).fill(stop)
    seen = computed_views(monkeypatch)
    cache(dataset, tmp_path).fill()
    assert {row for row, _ in seen} == set(range(10, 24))


def test_two_that_fill_one_folder_keep_each_others_photos(
    drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first is in the middle."""
    first, second = train_photos(drawn_birds).take(range(12)), train_photos(drawn_birds).take(range(8, 24))
    begun = False

    def meanwhile(done: int, total: int) -> None:
        nonlocal begun
        if not begun:
            begun = True
            cache(second, tmp_path).fill()

    cache(first, tmp_path).fill(meanwhile)
    seen = computed_views(monkeypatch)
    both = cache(train_photos(drawn_birds), tmp_path).read()
    assert not seen
    alone = cache(train_photos(drawn_birds), tmp_path / "alone").read()
    torch.testing.assert_close(both, alone, atol=1e-3, rtol=1e-3)


def test_training_computes_features_once_for_all_seeds(drawn_birds: Dataset, tmp_path: Path) -> None:
    calls: list[int] = []
    for seed in (0, 1):
        watcher = Watcher(features=lambda done, total: calls.append(total))
        plan = recipe(f"training.seed={seed}", "backbone.weights='none'")
        out = tmp_path / str(seed)
        run_training(plan, 12, drawn_birds, out, feature_cache=tmp_path / "cache", watcher=watcher)
    # the two backbones start from different random weights, so each has features of its own: (1 + 2 views) x 24 photos
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert set(calls) == {72}
    calls.clear()
    root = drawn_birds.root
    respelled = replace(drawn_birds, root=root / ".." / root.name)
    run_training(recipe("backbone.weights='none'"), 24, respelled, tmp_path / "24", feature_cache=tmp_path / "cache",
          watcher=watcher)  # fmt: skip
    assert not calls


@pytest.mark.parametrize("damage", ["no safetensors", "photos dropped", "no list of photos"])
def test_a_damaged_shard_says_what_to_delete(drawn_birds: Dataset, tmp_path: Path, damage: str) -> None:
    dataset = train_photos(drawn_birds).take(range(5))
    cache(dataset, tmp_path).fill()
    (shard,) = tmp_path.rglob("*.safetensors")
    raw = shard.read_bytes()
    if damage == "no safetensors":
        shard.write_bytes(b"damaged")
    elif damage == "photos dropped":
        with safe_open(shard, framework="pt") as file:
            photos, tensors = file.metadata()["photos"], {name: file.get_tensor(name)[:4] for name in file.keys()}  # noqa: SIM118
        save_file({name: value.contiguous() for name, value in tensors.items()}, shard, {"photos": photos})
    else:
        shard.write_bytes(raw.replace(b'"photos"', b'"fotos!"'))
    with pytest.raises(TrainingError, match=r"damaged .*; delete the file"):
        cache(dataset, tmp_path).read()


def test_a_folder_that_cannot_be_written_is_one_sentence(drawn_birds: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write the features"):
        cache(train_photos(drawn_birds), tmp_path / "file").fill()
