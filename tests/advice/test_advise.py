"""`advise` on features and on drawn photos, with and without labels."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import milvus_fghash as fg
from milvus_fghash.advice import run as running
from milvus_fghash.advice.encoder import FEWEST_IN_TIME, sample_features
from milvus_fghash.advice.measure import Catalog, Trial, figure_variance, largest_differences, shared_neighbours
from milvus_fghash.advice.result import NO_CLASSES, Cell
from milvus_fghash.advice.run import Clock, Run, recommended
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.synthetic.drawings import draw_birds
from milvus_fghash.errors import DataError
from milvus_fghash.evaluation.protocols import ProtocolOptions
from milvus_fghash.evaluation.quality import Quality
from milvus_fghash.recipes.loader import compose
from milvus_fghash.training.device import device_named
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
    options = ProtocolOptions(parts=1)
    return Catalog(torch.tensor(features, dtype=torch.float32), paths, labels, ("",) * 108, options, False)


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
    found = recommended(cells)
    assert (found.bits, found.protocol) == (64, "B")
    only_new_photos = [*cells, cell("y", 16, "B", 0.99)]  # nothing is known of it on new classes
    assert recommended(only_new_photos).method == "x"


def test_codes_that_keep_every_neighbour_have_all_of_them(catalog: Catalog) -> None:
    parts = catalog.parts("B", 0)
    n = len(catalog.labels)
    equal = np.zeros((n, 2), np.uint8)
    gallery = np.mean([len(part.gallery) for part in parts])
    assert shared_neighbours(catalog, parts, equal, 16) == pytest.approx(10 / (gallery - 1))
    signs = torch.randn(N_FEATURES, 1024, generator=torch.Generator().manual_seed(0))
    crops = catalog.features[0]
    codes = np.packbits((crops @ signs > 0).numpy(), axis=1)
    assert shared_neighbours(catalog, parts, codes, 1024) > 0.7


def test_queries_are_not_fitted_on_and_do_not_find_themselves(catalog: Catalog) -> None:
    for protocol in ("B", "C", "D", NO_CLASSES):
        for part in catalog.parts(protocol, 1):
            assert not {*part.queries} & {*part.labelled, *part.unlabelled}
    new = catalog.parts("C", 0)[0]
    assert not {catalog.labels[row] for row in new.queries} & {catalog.labels[row] for row in new.labelled}
    found = Trial(catalog, compose("frozen", "itq"), "B", NoBackbone(N_FEATURES)).at(32)
    for one in largest_differences(catalog, found, 100, 10):
        assert one.query not in {path for path, _ in (*one.by_floats, *one.by_codes)}


def test_without_time_the_first_two_cells_are_measured(catalog: Catalog) -> None:
    reports: list[str] = []
    run = Run(catalog, NoBackbone(N_FEATURES), (), 0, Clock(time.perf_counter(), 0), lambda *of: reports.append(of[2]))
    run.fill()
    assert [(one.method, one.bits, one.protocol) for one in run.cells] == [
        ("itq", 128, "B"),
        ("itq", 128, "D"),
        ("posterior-itq", 128, "B"),
    ]
    assert reports[0] == "seconds: itq at 128 bits, B: new photos"
    assert "itq C at 128, 64, 256, 48, 32 bits: no time" in run.left_out
    assert sum(one.split(" at ")[1].count(",") + 1 for one in run.left_out) == len(running.PLAN) - 2
    value, low, high, trainings = run.interval(recommended(run.cells))
    assert trainings == 1
    assert low < value < high


def test_the_time_is_kept(catalog: Catalog) -> None:
    """What is begun ends soon: no cell of this catalog takes a fifth of this time."""
    seconds = 5.0
    run = Run(catalog, NoBackbone(N_FEATURES), (), 0, Clock(time.perf_counter(), seconds), lambda *of: None)
    run.fill()
    run.interval(recommended(run.cells))
    assert run.clock.elapsed < 1.2 * seconds
    assert len(run.cells) > 3


def test_without_labels_codes_are_compared_with_the_floats(catalog: Catalog) -> None:
    nameless = replace(catalog, labels=("",) * len(catalog.labels))
    found = Trial(nameless, compose("frozen", "itq"), NO_CLASSES, NoBackbone(N_FEATURES)).at(32)
    assert found.cell.quality is None
    assert 0.3 < found.cell.neighbours < 1
    assert 0 < figure_variance(nameless, found) < 0.01


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("drawn") / "birds"
    return draw_birds(folder, classes=8, train_per_class=40, test_per_class=10, size=32)


def test_a_short_time_takes_features_of_fewer_photos(birds: Dataset, tmp_path: Path) -> None:
    small = ["preprocessing.size=32", "preprocessing.resize=32", "backbone.name=tiny", "backbone.weights=none"]
    recipe = compose("frozen", "posterior-itq", [*small, "backbone.views=1"])

    def computed(seconds: float) -> int:
        found = sample_features(recipe, birds, tmp_path, device_named("cpu"), seconds, lambda done, total: None)
        assert found.features.shape[:2] == (1, len(found.rows))
        assert len({birds.labels[row] for row in found.rows}) == 8
        return len(found.rows)

    some = computed(0.0)
    assert FEWEST_IN_TIME <= some < FEWEST_IN_TIME + 16  # batches have 16
    assert computed(0.0) == some + 16, "they are cached, and at least one batch is computed"
    assert computed(1000.0) == len(birds)


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    photos = draw_birds(tmp_path / "birds", classes=2, train_per_class=1, test_per_class=1, size=32)
    with pytest.raises(DataError, match="are one class"):
        fg.advise(photos.take([row for row, label in enumerate(photos.labels) if label == photos.classes[0]]))
