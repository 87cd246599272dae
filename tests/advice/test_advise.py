"""`advise` on features and on drawn photos, with and without labels."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import milvus_fghash as fg
from milvus_fghash.advice import api
from milvus_fghash.advice.measure import Catalog, figure_variance, measure, shared_neighbours
from milvus_fghash.advice.result import NO_CLASSES, Cell
from milvus_fghash.datasets.synthetic.drawings import draw_birds
from milvus_fghash.errors import DataError
from milvus_fghash.evaluation.protocols import ProtocolOptions
from milvus_fghash.evaluation.quality import Quality
from milvus_fghash.recipes.loader import compose
from milvus_fghash.training.on_features import NoBackbone

pytestmark = pytest.mark.full

N_FEATURES = 24


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    """Six classes of eighteen photos, two views each."""
    random = np.random.default_rng(0)
    classes = np.repeat(np.arange(6), 18)
    features = random.normal(size=(6, N_FEATURES))[classes] + 0.7 * random.normal(size=(2, 108, N_FEATURES))
    labels = tuple(f"class {number}" for number in classes)
    paths = tuple(f"{number}.jpg" for number in range(108))
    return Catalog(torch.tensor(features, dtype=torch.float32), paths, labels, ("",) * 108, ProtocolOptions(), False)


def cell(method: str, bits: int, protocol: str, value: float) -> Cell:
    quality = Quality(n_queries=1, n_gallery=1, map=value, precision_at_1=value, precision_at_10=value, reach=1)
    return Cell(
        method=method,
        bits=bits,
        protocol=protocol,
        quality=quality,
        neighbours=0,
        fit_seconds=0,
        search_milliseconds=0,
    )


def test_the_shortest_code_close_to_the_best_is_recommended() -> None:
    cells = [cell("x", bits, of, value) for of in "BC" for bits, value in ((32, 0.7), (64, 0.79), (128, 0.8))]
    found = api.recommended(cells)
    assert (found.bits, found.protocol) == (64, "B")
    only_new_photos = [*cells, cell("y", 16, "B", 0.99)]  # nothing is known of it on new classes
    assert api.recommended(only_new_photos).method == "x"


def test_codes_that_keep_every_neighbour_have_all_of_them(catalog: Catalog) -> None:
    parts = catalog.parts("B", 0)
    n = len(catalog.labels)
    equal = np.zeros((n, 2), np.uint8)
    gallery = np.mean([len(part.gallery) for part in parts])
    assert shared_neighbours(catalog, parts, equal, 16) == pytest.approx(10 / gallery, rel=0.1)
    signs = torch.randn(N_FEATURES, 1024, generator=torch.Generator().manual_seed(0))
    crops = catalog.features[0]
    codes = np.packbits((crops @ signs > 0).numpy(), axis=1)
    assert shared_neighbours(catalog, parts, codes, 1024) > 0.75


def test_queries_are_not_fitted_on(catalog: Catalog) -> None:
    for protocol in ("B", "C", "D", NO_CLASSES):
        for part in catalog.parts(protocol, 1):
            assert not {*part.queries} & {*part.labelled, *part.unlabelled, *part.gallery}
    new = catalog.parts("C", 0)[0]
    assert not {catalog.labels[row] for row in new.queries} & {catalog.labels[row] for row in new.labelled}


def test_without_time_the_first_two_steps_are_measured(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "PLAN", tuple((method, of, (32, 16)) for method, of, _ in api.PLAN))
    run = api.Run(catalog, NoBackbone(N_FEATURES), (), 0, time.perf_counter(), lambda done, total, what: None)
    run.fill()
    assert {(one.method, one.protocol) for one in run.cells} == {
        ("itq", "B"),
        ("itq", "D"),
        ("posterior-itq", "B"),
    }
    assert len(run.left_out) == len(api.PLAN) - 2
    name, value, low, high, trainings = run.interval(api.recommended(run.cells))
    assert name == "mAP"
    assert trainings == 1
    assert low < value < high


def test_without_labels_codes_are_compared_with_the_floats(catalog: Catalog) -> None:
    nameless = replace(catalog, labels=("",) * len(catalog.labels))
    recipe = compose("frozen", "itq")
    found = measure(nameless, recipe, (32,), NO_CLASSES, NoBackbone(N_FEATURES))[0]
    assert found.cell.quality is None
    assert 0.3 < found.cell.neighbours < 1
    assert 0 < figure_variance(nameless, found) < 0.01


def test_drawn_photos_to_a_command(tmp_path: Path) -> None:
    draw_birds(tmp_path / "birds", classes=4, train_per_class=12, test_per_class=8, size=48)
    advice = fg.advise(
        tmp_path / "birds", encoder="tiny", weights="none", minutes=0.05, feature_cache=tmp_path / "features"
    )
    assert (advice.survey.photos, advice.survey.classes, advice.views) == (80, 4, 0)
    chosen = advice.recommendation
    assert chosen.low <= chosen.value <= chosen.high
    assert chosen.recipe == f"frozen-{chosen.method}"
    assert "backbone.views=0" in chosen.changes
    assert advice.differences


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    photos = draw_birds(tmp_path / "birds", classes=2, train_per_class=1, test_per_class=1, size=32)
    with pytest.raises(DataError, match="are one class"):
        fg.advise(photos.take([row for row, label in enumerate(photos.labels) if label == photos.classes[0]]))
