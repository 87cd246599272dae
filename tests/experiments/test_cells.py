"""One cell, trained for real on drawings: what is recorded can be computed again from its codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from milvus_fghash.core.codes import pack, unpack
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import ConfigError, TrainingError
from milvus_fghash.experiments.cells import GridContext, Task, run_cell
from milvus_fghash.experiments.fits import fits, split_dataset
from milvus_fghash.experiments.grid import Grid, GridSpec, Variant
from milvus_fghash.experiments.prepare import prepare
from milvus_fghash.training import loop, run
from milvus_fghash.training.backbones import _Tiny
from milvus_fghash.training.checkpoint import load_checkpoint
from milvus_fghash.training.photos import CENTRE_CROP, Photos
from tests.helpers.made_up_records import BASELINE, LSH

pytestmark = pytest.mark.full

QUICK_ROUNDS = 2
QUICK = ("preprocessing.size=32", "preprocessing.resize=32", f"training.rounds={QUICK_ROUNDS}",
         "training.epochs_per_round=2", "training.batch_size=8")  # fmt: skip
FROZEN = ("backbone.frozen=true", "backbone.views=1", "head.standardise=true")


@pytest.fixture
def context(drawn_birds: Dataset, tmp_path: Path) -> GridContext:
    return GridContext(
        split_dataset(drawn_birds, "train", "test", 0.34), tmp_path / "out", tmp_path / "features", "cpu"
    )


def task(context: GridContext, variant: Variant, *changes: str, bits: int = 12, seed: int = 0) -> Task:
    spec = GridSpec("demo", (variant,), (bits,), 1, changes=(*QUICK, *changes))
    return Grid(spec, context).cell(variant, bits, seed, 1.0)


def slow_map(
    queries: NDArray[np.bool_], query_labels: NDArray[Any], gallery: NDArray[np.bool_], labels: NDArray[Any]
) -> float:
    """The mean over queries of average precision, each group of equal distances averaged over its places: a relevant
    photo at place k of a group finds, on average, its share of the group's other relevant ones before it."""
    total = 0.0
    for query, label in zip(queries, query_labels, strict=True):
        distances, relevant = (query != gallery).sum(axis=1), labels == label
        sum_of_precisions, n_before, r_before = 0.0, 0, 0
        for distance in sorted(set(distances.tolist())):
            group = relevant[distances == distance]
            n, r = len(group), int(group.sum())
            for k in range(n):
                others = k * (r - 1) / (n - 1) if n > 1 else 0.0
                sum_of_precisions += r / n * (r_before + 1 + others) / (n_before + k + 1)
            n_before, r_before = n_before + n, r_before + r
        total += sum_of_precisions / relevant.sum()
    return total / len(queries)


@pytest.mark.parametrize("variant", [LSH, BASELINE], ids=["lsh", "baseline"])
def test_a_cell_is_what_its_stored_codes_say(context: GridContext, variant: Variant) -> None:
    wanted = task(context, variant)
    record = run_cell(wanted, context)
    with np.load(context.out / "codes" / f"{wanted.name}.npz") as stored:
        arrays = dict(stored)
    labels = arrays.pop("query_labels"), arrays.pop("gallery_labels")
    codes = {name: unpack(array, 12) for name, array in arrays.items()}
    queries = codes.pop("queries")
    kinds = ["encoded"] if variant is LSH else ["encoded", "learned"]
    assert sorted(codes) == kinds
    assert (record.learned is None) == (variant is LSH)
    for kind, score in (("encoded", record.encoded), ("learned", record.learned)):
        if score:
            assert slow_map(queries, labels[0], codes[kind], labels[1]) == pytest.approx(score.map_exact, abs=1e-12)
            nearest = (queries[:, None] != codes[kind][None]).sum(axis=2)
            found = [
                (labels[1][row == row.min()] == label).mean() for row, label in zip(nearest, labels[0], strict=True)
            ]
            assert np.mean(found) == pytest.approx(score.precision_at[1])
    assert record.n_queries == len(queries) == 12
    assert record.n_gallery == 24


def test_the_two_galleries_are_the_networks_codes_and_the_learned_ones(context: GridContext) -> None:
    wanted = task(context, BASELINE, "method.options.start='photos'")  # so short a training from class codes gives few
    record = run_cell(wanted, context)
    assert record.encoded
    assert record.learned
    assert (record.encoded.source, record.learned.source) == ("network", "V")
    method = load_checkpoint(context.training(wanted)).method

    def codes(dataset: Dataset) -> NDArray[np.uint8]:
        photos = Photos(dataset, wanted.recipe.preprocessing, wanted.recipe.augmentation)
        pixels = torch.stack([photos[row, CENTRE_CROP] for row in range(len(photos))])
        with torch.no_grad():
            return pack(method(method.backbone.normalise(pixels)).numpy())

    with np.load(context.out / "codes" / f"{wanted.name}.npz") as stored:
        # another batch size may turn an output that is all but zero
        assert np.mean(codes(context.splits["test"].fitted) == stored["encoded"]) > 0.95
        assert np.mean(codes(context.splits["test"].others) == stored["queries"]) > 0.95
        assert len(np.unique(stored["encoded"], axis=0)) > 3
        learned = method.learned_codes(torch.zeros(24, dtype=torch.int64))
        assert learned is not None
        assert np.array_equal(stored["learned"], pack(learned.numpy()))
        assert not np.array_equal(stored["learned"], stored["encoded"])
        labels = dict(zip(context.splits["test"].fitted.labels, stored["gallery_labels"], strict=True))
        assert [labels[name] for name in context.splits["test"].others.labels] == stored["query_labels"].tolist()
    assert set(record.curve) == {"pairs", "quantisation"}
    assert all(len(values) == 2 for values in record.curve.values())
    assert record.seconds > 0


def begin(wanted: Task, context: GridContext, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Run a cell until its second round, in which it is stopped; gives the rounds that are trained from then on."""
    rounds: list[int] = []
    stops = [1]

    def watched(method: Any, source: Any, labels: Any, plan: Any, number: int, *rest: Any) -> Any:
        if number in stops:
            stops.clear()
            raise KeyboardInterrupt
        rounds.append(number)
        return loop.train_round(method, source, labels, plan, number, *rest)

    monkeypatch.setattr(run, "train_round", watched)
    with pytest.raises(KeyboardInterrupt):
        run_cell(wanted, context)
    rounds.clear()
    return rounds


def test_a_cell_goes_on_with_its_training(context: GridContext, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_cell(task(context, BASELINE), context)
    elsewhere = replace(context, out=context.out / "elsewhere")
    rounds = begin(task(context, BASELINE), elsewhere, monkeypatch)
    resumed = run_cell(task(context, BASELINE), elsewhere)
    assert rounds == [1]
    assert resumed.model_copy(update={"seconds": 0}) == whole.model_copy(update={"seconds": 0})


@pytest.mark.parametrize("change", ["training.rounds=3", "weights"])
def test_a_cell_never_goes_on_with_the_training_of_another(
    context: GridContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        save_file(_Tiny().state_dict(), tmp_path / f"{name}.safetensors")
    began, wanted = (f"backbone.weights='{tmp_path / name}.safetensors'" for name in ("one", "two"))
    if change != "weights":
        began, wanted = f"training.rounds={QUICK_ROUNDS}", change
    rounds = begin(task(context, BASELINE, began), context, monkeypatch)
    record = run_cell(task(context, BASELINE, wanted), context)
    assert rounds[0] == 0
    fresh = run_cell(task(context, BASELINE, wanted), replace(context, out=context.out / "fresh"))
    assert record.model_copy(update={"seconds": 0}) == fresh.model_copy(update={"seconds": 0})


def test_a_term_that_comes_later_is_in_the_curve(context: GridContext) -> None:
    """A2-Net reconstructs in the second half of the rounds only."""
    record = run_cell(task(context, Variant("a2net", "a2net", "linear")), context)
    first, second = record.curve["reconstruction"]
    assert first == 0
    assert second > 0
    assert {len(values) for values in record.curve.values()} == {2}


def test_a_loss_that_is_not_finite_is_a_result_and_a_damaged_checkpoint_is_not(context: GridContext) -> None:
    wild = task(context, BASELINE, "training.learning_rate=1e30", "training.rounds=9")
    record = run_cell(wild, context)
    assert record.failed
    assert "not finite" in record.failed
    assert record.encoded is record.learned is None
    assert not (context.out / "codes").exists()
    wanted = task(context, LSH)
    run_cell(wanted, context)
    (context.training(wanted) / "checkpoints" / "round-0000" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="cannot be used"):
        run_cell(wanted, context)


@pytest.mark.parametrize("name", ["lsh", "baseline", "fcaenet"])
def test_after_preparation_a_frozen_backbone_is_never_run(
    context: GridContext, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Workers that computed features would all compute the same."""
    variant = Variant(name, name, None if name == "lsh" else "linear")
    tasks = [task(context, variant, *FROZEN, seed=seed) for seed in (0, 1)]
    tasks.append(
        Grid(GridSpec("demo", (variant,), (12,), 1, changes=(*QUICK, *FROZEN)), context).trial(variant, 12, 1.0)
    )
    seen: list[str] = []
    prepare(tasks, context, lambda done, total, what: seen.append(what))
    assert set(seen) == {"photos checked", "features of the frozen backbone"}
    monkeypatch.setattr("milvus_fghash.training.feature_cache.computed_features", None)
    for each in tasks:
        assert run_cell(each, context).encoded


def test_what_cannot_be_built_is_found_before_the_first_training(context: GridContext) -> None:
    with pytest.raises(ConfigError, match="no backbone named 'tny'"):
        prepare([task(context, LSH, "backbone.name='tny'")], context, lambda done, total, what: None)


def test_each_protocol_is_measured_on_its_own_photos(drawn_birds: Dataset, tmp_path: Path) -> None:
    """The figures of C, E2 and Mn, computed again from the network that was trained for them."""
    asked = {fit.protocols: fit for fit in fits(("C", "Mn"))}
    for names, fit in asked.items():
        splits = split_dataset(drawn_birds, "train", "test", 0.34, fit)
        split = splits["test"]
        context = GridContext(splits, tmp_path / fit.name, tmp_path / "features", "cpu")
        strict = names == ("C",)
        assert len(split.fitted) == (12 if strict else 24)
        assert len({name for name in split.fitted.labels if name}) == 2
        assert ("" in split.fitted.labels) is not strict
        assert "" not in splits["trial"].others.labels, "photos without a label are no queries of a trial"
        wanted = task(context, LSH, *FROZEN)
        record = run_cell(wanted, context)
        assert set(record.protocols) == {*names}
        assert record.encoded is record.learned is None
        method = load_checkpoint(context.training(wanted)).method
        pixels = []
        for part in (split.fitted, split.others):
            photos = Photos(part, wanted.recipe.preprocessing, wanted.recipe.augmentation)
            pixels += [photos[row, CENTRE_CROP] for row in range(len(part))]
        with torch.no_grad():
            bits = method.head(method.features(method.backbone.normalise(torch.stack(pixels)))).numpy() > 0
        labels = np.array(split.labels)
        known = {name for name in split.fitted.labels if name}
        of_new = np.array([name not in known for name in labels])
        is_test = np.array([key in drawn_birds.split("test").ids for key in split.fitted.ids + split.others.ids])
        asking = is_test & of_new
        for name in names if strict else ("E2", "Mn"):
            stored = {"C": of_new & ~is_test, "E2": asking, "Mn": ~is_test}[name]
            each = []
            for query in np.flatnonzero(asking):
                rest = np.flatnonzero(stored & (np.arange(len(labels)) != query))
                each.append(slow_map(bits[[query]], labels[[query]], bits[rest], labels[rest]))
            found = record.protocols[name]
            assert found.map_exact == pytest.approx(np.mean(each))
            assert found.floats is not None
            assert (found.floats.n_queries, found.floats.n_gallery) == (6, int(stored.sum()))
            assert set(found.lda) == {"lda, C - 1 axes", "lda, 256 axes"}


def test_new_photos_are_queries_against_all_others(context: GridContext) -> None:
    record = run_cell(task(context, LSH, *FROZEN), context)
    floats = [one.floats for one in (record.protocols["B"], record.encoded) if one]
    assert [(one.n_queries, one.n_gallery) for one in floats if one] == [(12, 12), (12, 24)]
