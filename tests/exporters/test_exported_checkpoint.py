"""A checkpoint of a training becomes a bundle: its codes, its learned codes, its maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from milvus_fghash.core.codes import Codes, pack
from milvus_fghash.core.images import Preprocessing, load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import BundleError, ConfigError, TrainingError
from milvus_fghash.exporters.onnx_bundle import export
from milvus_fghash.methods.base import Sizes
from milvus_fghash.methods.lsh import Method
from milvus_fghash.recipes.schema import BackboneChoice, MethodChoice, Recipe
from milvus_fghash.training.backbones import build_backbone
from milvus_fghash.training.checkpoint import (
    FORMAT,
    CheckpointRecord,
    RoundRecord,
    build_method,
    load_checkpoint,
    save_checkpoint,
)
from tests.helpers.commands import GOLDEN
from tests.helpers.onnx_graphs import outputs_of, run, stretched

pytestmark = pytest.mark.full

Make = Callable[[int], Method]
Pixels = NDArray[np.uint8]


def checkpoint_of(name: str, dataset: Dataset, folder: Path, *, validated: bool) -> Path:
    """An untrained method's checkpoint, as the training loop writes it."""
    recipe = Recipe(
        method=MethodChoice(name=name),
        backbone=BackboneChoice(name="tiny", weights="none"),
        preprocessing=Preprocessing(size=64, resize=64),
    )
    torch.manual_seed(0)
    backbone = build_backbone("tiny", "none")
    method = build_method(recipe.method, recipe.head, backbone, Sizes(12, len(dataset.classes), len(dataset))).eval()
    labels = torch.from_numpy(dataset.label_numbers(dataset.classes))
    method.fit(torch.rand(len(dataset), backbone.n_features), labels)
    rounds = [(0.5, "encoded"), (None, None)] if validated else []
    history = [
        RoundRecord(
            round=number,
            learning_rate=0.1,
            terms={},
            seconds=1,
            images_per_second=1,
            validation_map=value,
            validation_gallery=gallery,
        )
        for number, (value, gallery) in enumerate(rounds)
    ]
    state = CheckpointRecord(
        format=FORMAT,
        lineage="abc123",
        bits=12,
        recipe=recipe,
        rounds_done=len(history),
        mean=backbone.mean,
        std=backbone.std,
        weights_licence=backbone.licence,
        classes=dataset.classes,
        train_ids=dataset.ids,
        train_labels=dataset.labels,
        history=tuple(history),
        versions={},
    )
    save_checkpoint(folder / "checkpoints", state, method, {})
    return folder


@pytest.mark.parametrize(("name", "source"), [("lsh", None), ("baseline", "V"), ("kinhash", "class codes")])
def test_onnx_gives_the_codes_of_the_network(
    name: str, source: str | None, drawn_birds: Dataset, tmp_path: Path
) -> None:
    dataset = drawn_birds.split("train")
    folder = checkpoint_of(name, dataset, tmp_path / "run", validated=True)
    bundle = export(folder, tmp_path / "b", check_images=drawn_birds.root, check_count=12)
    manifest, checkpoint = bundle.manifest, load_checkpoint(folder)
    photos = np.stack([load(dataset.file(row), manifest.preprocessing) for row in range(5)])
    codes: Codes = run(bundle.graph(), photos)["codes"]
    expected = pack(outputs_of(checkpoint.method, photos))  # type: ignore[arg-type]  # any method will do
    assert np.unpackbits(codes ^ expected).sum() <= 1
    assert manifest.outputs == ("logits", "codes")
    assert manifest.quality == {"validation_map_encoded": 0.5}
    assert (manifest.method, manifest.lineage, manifest.classes) == (name, "abc123", 4)
    assert manifest.bits_compared == 2 * 12 * 12
    assert manifest.weights_licence.startswith("none")
    numbers = torch.from_numpy(dataset.label_numbers(dataset.classes))
    learned, signs = bundle.learned(), checkpoint.method.learned_codes(numbers)
    assert (learned is None) == (signs is None) == (source is None)
    if learned is not None and signs is not None:
        assert (learned.ids, learned.labels, learned.source) == (dataset.ids, dataset.labels, source)
        assert np.array_equal(learned.codes, np.packbits(signs.numpy() == 1, axis=1))


@pytest.mark.parametrize(("name", "n_maps"), [("a2net", 4), ("dash", 1), ("kinhash", 1)])
def test_attention_is_the_methods_own_and_computed_once(
    name: str, n_maps: int, drawn_birds: Dataset, tmp_path: Path
) -> None:
    folder = checkpoint_of(name, drawn_birds.split("train"), tmp_path / "run", validated=False)
    graph = export(folder, tmp_path / "b", outputs=["attention"], check_count=2).graph()
    method = load_checkpoint(folder).method
    photos = np.stack([load(drawn_birds.file(row), Preprocessing(size=64, resize=64)) for row in range(3)])
    with torch.inference_mode():
        looks = method.attentions(method.backbone.normalise(torch.from_numpy(photos).permute(0, 3, 1, 2))).numpy()
    given = run(graph, photos)["attention"]
    assert given.shape == looks.shape == (3, n_maps, *looks.shape[2:])
    assert np.allclose(given, stretched(looks), atol=5e-3)  # untrained maps are nearly flat
    nodes = [node.op_type for node in onnx.load_from_string(graph).graph.node]
    assert nodes.count("Conv") == sum(isinstance(layer, nn.Conv2d) for layer in method.modules())


def test_a_checkpoint_is_checked_on_drawings(drawn_birds: Dataset, tmp_path: Path) -> None:
    folder = checkpoint_of("lsh", drawn_birds.split("train"), tmp_path / "run", validated=False)
    manifest = export(folder, tmp_path / "b", check_count=3).manifest
    assert manifest.bits_compared == 2 * 3 * 12
    assert manifest.quality == {}


def test_a_taken_name_or_no_checkpoint_is_rejected_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(BundleError, match="exists"):
        export(tmp_path / "nothing", tmp_path / "taken")
    with pytest.raises(ConfigError, match="no output"):
        export(tmp_path / "nothing", tmp_path / "b", outputs=["depth"])
    with pytest.raises(TrainingError, match="no checkpoint"):
        export(tmp_path / "nothing", tmp_path / "b")


def test_a_bundle_is_not_exported_again(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no checkpoint in .*; it is already a bundle"):
        export(GOLDEN, tmp_path / "b")
