"""ONNX Runtime gives the features of a frozen backbone, if it gives the same as torch; both share one cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.embedding_models.model import EmbeddingModel
from milvus_fghash.methods.base import Sizes
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.training import onnx_features
from milvus_fghash.training.backbones import build_backbone
from milvus_fghash.training.checkpoint import build_method
from milvus_fghash.training.feature_cache import FeatureCache
from milvus_fghash.training.photos import Photos

pytestmark = pytest.mark.full

CPU = torch.device("cpu")
CHANGES = ("preprocessing.size=32", "preprocessing.resize=32", "backbone.frozen=true", "backbone.views=1")


def cache(dataset: Dataset, folder: Path, recipe: str = "demo-orthohash", **options: bool) -> FeatureCache:
    plan = load_recipe(recipe, CHANGES).at(12)
    torch.manual_seed(0)
    method = build_method(plan.method, plan.head, build_backbone("tiny", "none"), Sizes(12, 4, 36))
    photos = Photos(dataset, plan.preprocessing, plan.augmentation)
    return FeatureCache(method, photos, folder, CPU, plan.backbone.views, **options)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of photos of each run of ONNX Runtime while features are computed."""
    counted: list[int] = []
    real = EmbeddingModel.features

    def counting(model: EmbeddingModel, images: Any) -> Any:
        counted.append(len(images))
        return real(model, images)

    monkeypatch.setattr(EmbeddingModel, "features", counting)
    return counted


def test_both_give_the_same_features_and_share_a_cache(
    drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[int]
) -> None:
    by_torch = cache(drawn_birds, tmp_path / "torch").read()["anchor"]
    assert runs == []  # so few views are not worth an export
    monkeypatch.setattr(onnx_features, "MIN_VIEWS", 1)
    by_runtime = cache(drawn_birds, tmp_path / "runtime").read()["anchor"]
    assert sum(runs) >= 2 * len(drawn_birds)
    torch.testing.assert_close(by_runtime, by_torch, rtol=1e-3, atol=1e-4)
    runs.clear()
    assert torch.equal(cache(drawn_birds, tmp_path / "torch").read()["anchor"], by_torch)
    assert runs == []
    monkeypatch.setattr(onnx_features, "trace", None)  # a second cache in the folder finds the exported backbone
    crops = cache(drawn_birds, tmp_path / "runtime", centre_crop_only=True).read_centre_crops()
    torch.testing.assert_close(crops, by_torch[0], rtol=1e-3, atol=1e-4)
    assert runs


def test_torch_computes_where_a_method_needs_more_or_the_features_differ(
    drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[int]
) -> None:
    monkeypatch.setattr(onnx_features, "MIN_VIEWS", 1)
    few = drawn_birds.take(range(4))
    assert set(cache(few, tmp_path / "erasing", "demo-fcaenet").read()) == {"anchor", "erased"}
    assert runs == []
    monkeypatch.setattr(onnx_features, "TOLERANCE", -1.0)
    assert cache(few, tmp_path / "differs").read()["anchor"].shape[:2] == (2, 4)
    assert len(runs) == 3  # two of the trial, one of the comparison
    assert not list((tmp_path / "differs").glob("*.onnx"))
