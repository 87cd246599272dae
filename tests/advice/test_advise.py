"""`advise` on features and on drawn photos, with and without labels."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import milvus_fghash as fg
from milvus_fghash.advice.api import catalog_of
from milvus_fghash.advice.encoder import FEWEST_IN_TIME, sample_features
from milvus_fghash.advice.measure import (
    Catalog,
    Measured,
    Trial,
    figure_variance,
    largest_differences,
    shared_neighbours,
)
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
    of_another = [cell("y", 16, "B", 0.99), cell("y", 128, "B", 0.9), cell("y", 128, "C", 0.1)]
    assert recommended([*cells, *of_another]).method == "x", "nothing is known of y at 16 bits on new classes"


def test_a_method_does_not_win_because_another_one_had_no_time() -> None:
    cells = [cell("cheap", 64, "B", 0.3), cell("cheap", 64, "C", 0.5), cell("good", 64, "B", 0.8)]
    assert recommended(cells).method == "good"
    assert recommended([*cells, cell("good", 64, "C", 0.1)]).method == "good"
    assert recommended([*cells, cell("good", 64, "C", 0.1), cell("good", 32, "B", 0.7)]).bits == 64


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
    assert reports[0] == "itq at 128 bits, B: new photos"
    assert run.left_out == (
        "no time for: itq C, posterior-itq C, itq B at 64, 256, 48, 32 bits, posterior-itq B at 64, 256, 48, 32 bits, "
        "posterior-itq D, kinhash B, kinhash C",
    )
    value, low, high, trainings = run.interval(recommended(run.cells))
    assert trainings == 1
    assert low < value < high


@pytest.mark.parametrize("seconds", [40.0, 65.0, 200.0])
def test_the_time_is_kept(catalog: Catalog, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """A first fit takes 20 s (ITQ: 1), a further length half as long; what does not fit is not begun."""
    now = [0.0]

    def measure(run: Run, method: str, protocol: str, bits: int) -> None:
        first = 1.0 if method == "itq" else 20.0
        took = run._took.setdefault((method, protocol), [])
        took.append(first / 2 if took else first)
        now[0] += took[-1]
        run._add(Measured(cell(method, bits, protocol, 0.5), (), np.zeros((0, 1), np.uint8)))

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(Run, "_measure", measure)
    run = Run(catalog, NoBackbone(N_FEATURES), (), 0, Clock(0.0, seconds), lambda *of: None)
    quality = cell("floats", 0, "B", 0.5).quality
    assert quality is not None
    run.floats["B"] = quality
    run.fill()
    assert now[0] <= seconds
    assert len(run.cells) > 3
    assert [one.bits for one in run.cells[:2]] == [128, 128]


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


@pytest.mark.parametrize(
    ("labels", "splits"),
    [
        ([f"class {number}" for number in range(60)], [""] * 60),
        ([f"class {number // 2}" for number in range(60)], [""] * 60),
    ],
    ids=["one of each", "two of each"],
)
def test_classes_without_enough_photos_are_not_measured(labels: list[str], splits: list[str]) -> None:
    with pytest.raises(DataError, match="fewer than 30 photos have another one of their class"):
        catalog_of(listed(labels, splits), torch.zeros(1, 60, 2), 0)


def test_splits_with_few_queries_are_not_used() -> None:
    labels = [f"class {number % 3}" for number in range(60)]
    few, enough = (["test"] * count + ["train"] * (60 - count) for count in (3, 12))
    assert catalog_of(listed(labels, enough), torch.zeros(1, 60, 2), 0).has_splits
    assert not catalog_of(listed(labels, few), torch.zeros(1, 60, 2), 0).has_splits
    assert not catalog_of(listed(labels, ["train"] * 60), torch.zeros(1, 60, 2), 0).has_splits


def listed(labels: list[str], splits: list[str]) -> Dataset:
    names = tuple(f"{number}.jpg" for number in range(len(labels)))
    return Dataset(Path("photos"), names, names, tuple(labels), tuple(splits))
