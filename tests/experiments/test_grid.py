"""The grid with a stand-in for training: what is run, with which recipe, and what is not run again."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import ConfigError, DataError, TrainingError
from milvus_fghash.experiments import workers
from milvus_fghash.experiments.cells import GridContext, Task
from milvus_fghash.experiments.fits import split_dataset
from milvus_fghash.experiments.grid import Grid, GridSpec, Variant
from milvus_fghash.experiments.records import Record
from tests.helpers.made_up_records import BASELINE, LSH, OTHER, score

Outcome = Callable[[Task], float | None]


class Runner:
    """Takes the place of `run_cell`: remembers its tasks, and gives the figures that it is told to."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.outcome: Outcome = lambda task: 0.5

    def __call__(self, task: Task, context: GridContext) -> Record:
        self.tasks.append(task)
        value = self.outcome(task)
        return Record(
            name=task.name,
            identity=task.identity,
            failed="not finite" if value is None else None,
            encoded=None if value is None else score(value),
            n_queries=len(context.splits[task.phase].others),
            n_gallery=len(context.splits[task.phase].fitted),
        )

    def of(self, part: str) -> list[Task]:
        return [task for task in self.tasks if task.phase == part]


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    runner = Runner()
    monkeypatch.setattr(workers, "run_cell", runner)
    return runner


@pytest.fixture
def context(drawn_birds: Dataset, tmp_path: Path) -> GridContext:
    splits = split_dataset(drawn_birds, "train", "test", 0.34)
    return GridContext(splits, tmp_path / "out", tmp_path / "features", "cpu")


def spec(*variants: Variant, changes: tuple[str, ...] = (), trials: int = 3, n_seeds: int = 2) -> GridSpec:
    return GridSpec(
        "demo", variants or (LSH, BASELINE), (12, 16), n_seeds, trials=trials, trial_bits=(24,), changes=changes
    )


def test_every_row_that_learns_gets_the_same_number_of_trials(context: GridContext, runner: Runner) -> None:
    Grid(spec(LSH, BASELINE, OTHER), context).run()
    trials = Counter((task.recipe.method.name, task.recipe.head.kind) for task in runner.of("trial"))
    assert trials == {("baseline", "linear"): 3, ("baseline", "mlp"): 3}
    assert {task.bits for task in runner.of("trial")} == {24}
    assert {task.recipe.training.seed for task in runner.of("trial")} == {0}
    assert sorted(task.recipe.training.learning_rate for task in runner.of("trial"))[::2] == [0.000333, 0.001, 0.003]
    assert len(runner.of("test")) == 3 * 2 * 2


def test_trials_never_see_a_test_photo(context: GridContext, drawn_birds: Dataset) -> None:
    trial, test = context.splits["trial"], context.splits["test"]
    asked = {*trial.others.ids}
    assert set(test.fitted.ids) == set(drawn_birds.split("train").ids)
    assert set(test.others.ids) == set(drawn_birds.split("test").ids)
    assert asked | set(trial.fitted.ids) == set(test.fitted.ids)
    assert not asked & set(trial.fitted.ids)
    assert len(asked) == 4 * 2  # of 4 classes x 6 photos, 2 a class


def test_the_best_rate_is_taken_by_each_row_at_every_length(context: GridContext, runner: Runner) -> None:
    best = {"linear": 0.003, "mlp": 0.000333}
    runner.outcome = lambda task: 0.9 if task.recipe.training.learning_rate == best[task.recipe.head.kind] else 0.1
    results = Grid(spec(BASELINE, OTHER, changes=("by_bits.16.training.learning_rate=0.01",)), context).run()
    taken = {(task.recipe.head.kind, task.bits): task.recipe.training.learning_rate for task in runner.of("test")}
    assert taken == {("linear", 12): 0.003, ("linear", 16): 0.03, ("mlp", 12): 0.000333, ("mlp", 16): 0.00333}
    assert [results.rate_factor(variant, 12) for variant in (BASELINE, OTHER)] == [3.0, 1 / 3]


def test_each_length_has_trials_of_its_own_unless_one_counts_for_all(context: GridContext, runner: Runner) -> None:
    best = {12: 0.003, 16: 0.000333}
    runner.outcome = lambda task: 0.9 if task.recipe.training.learning_rate == best[task.bits] else 0.1
    results = Grid(replace(spec(BASELINE), trial_bits=()), context).run()
    assert Counter(task.bits for task in runner.of("trial")) == {12: 3, 16: 3}
    assert {(task.bits, task.recipe.training.learning_rate) for task in runner.of("test")} == set(best.items())
    assert [results.rate_factor(BASELINE, bits) for bits in (12, 16)] == [3.0, 1 / 3]


def test_a_length_takes_the_trials_of_the_nearest_in_ratio() -> None:
    tried = replace(spec(), trial_bits=(12, 48))
    assert {bits: tried.trial_bits_for(bits) for bits in (8, 12, 23, 24, 32, 48, 96)} == {
        8: 12, 12: 12, 23: 12, 24: 48, 32: 48, 48: 48, 96: 48
    }  # fmt: skip


def test_one_trial_is_none(context: GridContext, runner: Runner) -> None:
    Grid(spec(trials=1), context).run()
    assert not runner.of("trial")
    assert {task.recipe.training.learning_rate for task in runner.of("test") if "baseline" in task.name} == {0.001}


def test_seeds_reach_training_and_method_alike(context: GridContext, runner: Runner) -> None:
    Grid(spec(LSH, BASELINE, changes=("data.validation=0.3",)), context).run()
    for task in runner.of("test"):
        seed = int(task.name[-1])
        assert task.recipe.training.seed == seed
        assert task.recipe.method.options["seed"] == seed
        assert task.identity.options["seed"] == seed
        assert task.recipe.data.validation == 0, "trials hold photos out; the cells train on all of them"
    assert {task.name[-1] for task in runner.of("test")} == {"0", "1"}


def test_a_rate_that_fails_is_recorded_and_skipped(context: GridContext, runner: Runner) -> None:
    runner.outcome = lambda task: None if task.recipe.training.learning_rate > 0.002 else 0.3
    results = Grid(spec(BASELINE), context).run()
    assert [bool(record.failed) for record in results.trials[BASELINE, 24].values()] == [False, False, True]
    assert results.rate_factor(BASELINE, 16) == 1.0
    runner.tasks.clear()
    Grid(spec(BASELINE), context).run()
    assert not runner.tasks, "a failure is a result too"


def test_no_rate_is_chosen_while_trials_are_missing(context: GridContext, runner: Runner) -> None:
    Grid(spec(LSH, BASELINE, trials=3), context).run()
    looked = Grid(spec(LSH, BASELINE, trials=5), context).read_results()
    assert len(looked.trials[BASELINE, 24]) == 3
    assert looked.rate_factor(BASELINE, 12) is None
    assert {variant for variant, _, _ in looked.cells} == {LSH}


def test_a_row_whose_rates_all_fail_has_no_cells(context: GridContext, runner: Runner) -> None:
    runner.outcome = lambda task: None if task.phase == "trial" else 0.5
    results = Grid(spec(LSH, BASELINE), context).run()
    assert results.all_trials_failed(BASELINE, 12)
    assert not results.all_trials_failed(LSH, 12)
    assert {variant for variant, _, _ in results.cells} == {LSH}


def test_nothing_is_run_twice_and_more_can_be_asked_for(context: GridContext, runner: Runner) -> None:
    Grid(spec(LSH, BASELINE, n_seeds=1), context).run()
    assert len(runner.tasks) == 3 + 2 * 2
    runner.tasks.clear()
    results = Grid(spec(LSH, BASELINE, OTHER, n_seeds=2), context).run()
    done = {task.name for task in runner.tasks}
    assert len(done) == len(runner.tasks) == 3 + 2 * 2 * 3 - 4
    assert not any("linear" in name and "seed0" in name for name in done)
    assert len(results.cells) == 12


def test_records_alone_are_enough_to_go_on(context: GridContext, runner: Runner, tmp_path: Path) -> None:
    first = Grid(spec(), context).run()
    runner.tasks.clear()
    elsewhere = GridContext(context.splits, tmp_path / "elsewhere", context.cache, None)
    elsewhere.out.mkdir()
    for name in ("cells.jsonl", "trials.jsonl"):
        (elsewhere.out / name).write_bytes((context.out / name).read_bytes())
    assert Grid(spec(), elsewhere).run() == first
    assert not runner.tasks


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (("training.rounds=5",), "recipe.training.rounds = 12, and now it is 5"),
        (("head.hidden=7",), "recipe.head.hidden"),
    ],
)
def test_other_recipes_do_not_share_a_folder(
    context: GridContext, runner: Runner, changes: tuple[str, ...], field: str
) -> None:
    Grid(spec(), context).run()
    with pytest.raises(ConfigError, match=field):
        Grid(spec(changes=changes), context).run()


def test_what_changes_no_figure_may_change(context: GridContext, runner: Runner) -> None:
    Grid(spec(), context).run()
    runner.tasks.clear()
    Grid(spec(changes=("training.workers=2", "description='other words'")), context).run()
    assert not runner.tasks


def test_other_photos_do_not_share_a_folder(context: GridContext, runner: Runner, drawn_birds: Dataset) -> None:
    """One photo less to search, one less to ask, another photo in one's place, another class."""
    Grid(spec(LSH), context).run()
    last = len(drawn_birds) - 1
    assert (drawn_birds.splits[0], drawn_birds.splits[last]) == ("test", "train")
    for other in (
        drawn_birds.take(range(last)),
        drawn_birds.take(range(1, last + 1)),
        replace(drawn_birds, ids=(*drawn_birds.ids[:last], "another")),
        replace(drawn_birds, labels=(*drawn_birds.labels[:last], drawn_birds.labels[0])),
    ):
        with pytest.raises(ConfigError, match="lsh-12bits-seed0 with photos"):
            Grid(spec(LSH), replace(context, splits=split_dataset(other, "train", "test", 0.34))).run()
    elsewhere = replace(drawn_birds, root=drawn_birds.root.parent)
    assert (
        len(
            Grid(spec(LSH), replace(context, splits=split_dataset(elsewhere, "train", "test", 0.34)))
            .read_results()
            .cells
        )
        == 4
    )


def test_local_weights_are_known_by_what_is_in_them(context: GridContext, runner: Runner, tmp_path: Path) -> None:
    recorded = []
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(content)
        task = Grid(spec(changes=(f"backbone.weights='{file}'",)), context).cell(LSH, 12, 0, 1.0)
        assert task.recipe.backbone.weights == str(file)
        assert str(tmp_path) not in task.identity.model_dump_json()
        recorded.append(task.identity)
    assert recorded[0] == recorded[1] != recorded[2]
    with pytest.raises(ConfigError, match="cannot read the weights"):
        Grid(spec(changes=(f"backbone.weights='{tmp_path / 'none.safetensors'}'",)), context).run()


def test_an_error_keeps_what_was_recorded(context: GridContext, runner: Runner) -> None:
    def outcome(task: Task) -> float:
        if "seed1" in task.name:
            raise TrainingError("the disk is on fire")
        return 0.5

    runner.outcome = outcome
    with pytest.raises(TrainingError, match="on fire"):
        Grid(spec(), context).run()
    assert len(Grid(spec(), context).read_results().cells) == 4
    runner.outcome = lambda task: 0.5
    runner.tasks.clear()
    Grid(spec(), context).run()
    assert len(runner.tasks) == 4


def test_looking_trains_nothing(context: GridContext, runner: Runner) -> None:
    looked = Grid(spec(), context).read_results()
    assert not looked.cells
    assert not context.out.exists()
    Grid(spec(), context).run()
    runner.tasks.clear()
    assert len(Grid(spec(), context).read_results().cells) == 8
    assert not runner.tasks


def test_a_finished_cells_training_is_removed_unless_it_is_wanted(context: GridContext, runner: Runner) -> None:
    left = context.out / "trainings" / "lsh-12bits-seed0"

    def outcome(task: Task) -> float:
        context.training(task).mkdir(parents=True)
        return 0.5

    runner.outcome = outcome
    Grid(spec(LSH), context).run(keep_trainings=True)
    assert left.is_dir()
    Grid(spec(LSH), context).run()
    assert left.is_dir(), "what was asked to be kept stays, also when the grid runs again"
    (left / "kept").unlink()
    Grid(spec(LSH), context).run()
    assert not left.exists(), "as after a kill between record and removal"
    (context.out / "cells.jsonl").unlink()
    shutil.rmtree(left.parent)
    Grid(spec(LSH), context).run()
    assert not left.exists()


def test_options_that_do_not_exist_are_found_before_anything_is_trained(context: GridContext, runner: Runner) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'gama'.*gamma"):
        Grid(spec(changes=("method.options.gama=1",)), context).run()
    assert not runner.tasks


def test_photos_of_a_grid_need_classes_and_splits(drawn_birds: Dataset) -> None:
    with pytest.raises(DataError, match="Did you mean test"):
        split_dataset(drawn_birds, "train", "tset", 0.2)
    splits = drawn_birds.splits
    labels = tuple("" if split == "test" else drawn_birds.labels[row] for row, split in enumerate(splits))
    nameless = replace(drawn_birds, labels=labels)
    with pytest.raises(DataError, match="12 of 12 photos of 'test' have no class"):
        split_dataset(nameless, "train", "test", 0.2)
    first = {label: row for row, label in enumerate(drawn_birds.labels) if splits[row] == "train"}
    single = drawn_birds.take([*first.values(), *(row for row, split in enumerate(splits) if split == "test")])
    assert "trial" not in split_dataset(single, "train", "test", 0.0)
    with pytest.raises(DataError, match=r"split .train. is used both for training and for queries"):
        split_dataset(drawn_birds, "train", "train", 0.2)
    with pytest.raises(DataError, match="a single training photo"):
        split_dataset(single, "train", "test", 0.2)
