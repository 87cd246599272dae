"""Rows x code lengths x seeds: which cells there are, and running those that are not recorded yet.

OUT/trials.jsonl, OUT/cells.jsonl   one record a line, see `records`
OUT/codes/CELL.npz                  codes of queries and galleries, and their class numbers
OUT/trainings/CELL/                 a training under way, and whose it is; gone when its cell is recorded
OUT/features/                       of a frozen trunk, unless they are kept elsewhere
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.callbacks import Notify
from milvus_fghash.core.file_models import read_model
from milvus_fghash.experiments.cells import GridContext, Part, Split, Task
from milvus_fghash.experiments.learning_rates import best_factor, factors, tried_rate
from milvus_fghash.experiments.prepare import prepare
from milvus_fghash.experiments.records import Identity, Record, Store
from milvus_fghash.experiments.workers import run_tasks
from milvus_fghash.methods import card, check_trunk, load
from milvus_fghash.recipes.loader import compose
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.draws import with_seed
from milvus_fghash.training.weights import by_content, decisive

TRIALS, CELLS = "trials.jsonl", "cells.jsonl"
KEPT = "kept"
"""Marks a training that was asked to be kept."""

Report = Callable[[int, int, str], None]
"""Called with how much is done, of how much, and of what."""


@dataclass(frozen=True)
class Row:
    """One line of the tables: a method, under a head, with its own changes of the recipe."""

    label: str
    method: str
    head: str | None = None
    """None for a method that has no head to choose."""
    changes: tuple[str, ...] = ()
    """As of ``--set``. Rows of equal method, head and changes are one training."""
    group: str = ""
    """Heading of the tables that the row stands in."""

    @property
    def name(self) -> str:
        """Fit for a file's name: what is trained, without the label."""
        told = [change.replace("method.options.", "") for change in self.changes]
        words = [self.method, *told, *([self.head] if self.head else [])]
        return "-".join(re.sub(r"[^\w.=]+", "_", word) for word in words)


Cell = tuple[Row, int, int]
"""(row, bits, seed)."""


@dataclass(frozen=True)
class Plan:
    """A whole grid."""

    setting: str
    rows: tuple[Row, ...]
    bits: tuple[int, ...]
    n_seeds: int
    trials: int = 1
    """Learning rates tried for each row that learns by gradient; 1 takes the recipe's."""
    trial_bits: tuple[int, ...] = ()
    """Code lengths of the trials; none: each length has its own."""
    changes: tuple[str, ...] = ()
    """Of every row's recipe."""

    def trial_length(self, bits: int) -> int:
        """The length whose trials count at ``bits``: the nearest in ratio, of two the longer."""
        return min(self.trial_bits or self.bits, key=lambda tried: (max(tried / bits, bits / tried), -tried))

    def cells(self) -> Iterator[Cell]:
        """In the order in which they are run: the whole table for one seed, then for the next."""
        for seed in range(self.n_seeds):
            for row in self.rows:
                for bits in self.bits:
                    yield row, bits, seed


@dataclass
class Results:
    """What is recorded of a plan's grid."""

    plan: Plan
    cells: dict[Cell, Record] = field(default_factory=dict)
    trials: dict[tuple[Row, int], dict[float, Record]] = field(default_factory=dict)
    """(row, bits of the trials) -> factor of the recipe's learning rate -> its trial, for rows that have trials."""

    def seeds(self, row: Row, bits: int) -> list[Record]:
        """Those of a row's cells at a length that are recorded, in the order of their seeds."""
        cells = ((row, bits, seed) for seed in range(self.plan.n_seeds))
        return [self.cells[cell] for cell in cells if cell in self.cells]

    def factor(self, row: Row, bits: int) -> float | None:
        """What the row's rate at a length is multiplied by; None while that is open, or when every trial failed."""
        if not has_trials(self.plan, row):
            return 1.0
        done = self._tried(row, bits)
        return best_factor(done) if len(done) == self.plan.trials else None

    def hopeless(self, row: Row, bits: int) -> bool:
        """Whether every learning rate failed."""
        done = self._tried(row, bits)
        return len(done) == self.plan.trials and best_factor(done) is None

    def _tried(self, row: Row, bits: int) -> dict[float, Record]:
        """The trials that count for the row at a length."""
        return self.trials.get((row, self.plan.trial_length(bits)), {})


def has_trials(plan: Plan, row: Row) -> bool:
    return plan.trials > 1 and card(row.method).by_gradient


class Grid:
    """A plan on photos, in a folder."""

    def __init__(self, plan: Plan, bench: GridContext) -> None:
        self.plan, self.bench = plan, bench
        self._digests = {part: _digest(split) for part, split in bench.splits.items()}
        self._base = cache(self._recipe_of)
        self._at = cache(lambda row, bits: self._base(row).at(bits))

    def run(
        self,
        *,
        jobs: int = 1,
        threads: int | None = None,
        keep_trainings: bool = False,
        notify: Notify = lambda line: None,
        report: Report = lambda done, total, what: None,
    ) -> Results:
        """Run what is missing, trials first, and give all there is.

        Args:
            jobs: trainings side by side, each in a process of its own.
            threads: of each; default: torch's number, shared between the jobs.
            keep_trainings: leave the checkpoints of finished cells where they are.
            notify: called with a line for each finished cell.
            report: called with the progress of what goes on.

        Raises:
            ConfigError: when a row's recipe is wrong, the folder holds figures that were made in another way, or
                another grid is running there.
            FghashError: whatever a training raises; what was recorded before stays.
        """

        def work(tasks: list[Task], store: Store) -> None:
            missing = []
            for task in tasks:
                if store.find(task.name, task.identity) is None:
                    missing.append(task)
                elif not (self.bench.training(task) / KEPT).exists():  # left by a kill between record and removal
                    self._remove_training(task)
            with closing(run_tasks(missing, self.bench, jobs, threads)) as finished:
                for number, (task, record) in enumerate(finished, 1):
                    if keep_trainings:
                        write_atomic(self.bench.training(task) / KEPT, b"")
                    store.append(record)
                    if not keep_trainings:
                        self._remove_training(task)
                    notify(f"[{number}/{len(missing)}] {_line(record)}")
                    report(number, len(missing), "trainings")

        with Store(self.bench.out / TRIALS) as trials, Store(self.bench.out / CELLS) as cells:
            # What is wrong with a cell must not wait for its trials. Which rate it will have makes no difference.
            tried = _distinct(self._trials().values())
            trained = _distinct(self.cell(*cell, 1.0) for cell in self.plan.cells())
            awaited = [task for task in tried if task.name not in trials.records]
            awaited += [task for task in trained if task.name not in cells.records]
            prepare(awaited, self.bench, report)
            work(tried, trials)
            results = self._collect(trials, cells)
            work(_distinct(self._cells(results).values()), cells)
            return self._collect(trials, cells)

    def look(self) -> Results:
        """What is recorded, also while the grid is running elsewhere.

        Raises:
            ConfigError: as `run`.
        """
        out = self.bench.out
        with Store(out / TRIALS, writing=False) as trials, Store(out / CELLS, writing=False) as cells:
            return self._collect(trials, cells)

    def _collect(self, trials: Store, cells: Store) -> Results:
        results = Results(self.plan)
        for (row, bits, factor), task in self._trials().items():
            if (record := trials.find(task.name, task.identity)) is not None:
                results.trials.setdefault((row, bits), {})[factor] = record
        for cell, task in self._cells(results).items():
            if (record := cells.find(task.name, task.identity)) is not None:
                results.cells[cell] = record
        return results

    def _trials(self) -> dict[tuple[Row, int, float], Task]:
        """All trials, in the order in which they are run."""
        plan = self.plan
        return {
            (row, bits, factor): self.trial(row, bits, factor)
            for row in plan.rows
            if has_trials(plan, row)
            for bits in plan.trial_bits or plan.bits
            for factor in factors(plan.trials)
        }

    def _cells(self, results: Results) -> dict[Cell, Task]:
        """The cells whose learning rate is known, in the order in which they are run."""
        return {
            (row, bits, seed): self.cell(row, bits, seed, factor)
            for row, bits, seed in self.plan.cells()
            if (factor := results.factor(row, bits)) is not None
        }

    def _remove_training(self, task: Task) -> None:
        shutil.rmtree(self.bench.training(task), ignore_errors=True)

    def trial(self, row: Row, bits: int, factor: float) -> Task:
        """Seed 0 with the recipe's learning rate times ``factor``."""
        return self._task(f"{row.name}-{bits}bits-rate{factor:.3g}", "trial", self._recipe(row, bits, 0, factor), bits)

    def cell(self, row: Row, bits: int, seed: int, factor: float) -> Task:
        return self._task(f"{row.name}-{bits}bits-seed{seed}", "test", self._recipe(row, bits, seed, factor), bits)

    def _recipe_of(self, row: Row) -> Recipe:
        head = [f"head.kind={row.head}"] if row.head else []
        recipe = compose(self.plan.setting, row.method, [*self.plan.changes, *head, *row.changes])
        check_trunk(row.method, frozen=recipe.trunk.frozen)
        return recipe

    def _recipe(self, row: Row, bits: int, seed: int, factor: float) -> Recipe:
        recipe = with_seed(self._at(row, bits), seed)
        rate = tried_rate(recipe.training.learning_rate, factor)
        plan = recipe.training.model_copy(update={"learning_rate": rate})
        data = recipe.data.model_copy(update={"validation": 0.0})  # trials hold photos out in their own way
        return recipe.model_copy(update={"training": plan, "data": data})

    def _task(self, name: str, part: Part, recipe: Recipe, bits: int) -> Task:
        config = read_model(
            load(recipe.method.name).Config, recipe.method.options, f"method.options of {recipe.method.name}"
        )
        identity = Identity(
            recipe=decisive(by_content(recipe)),
            options=config.model_dump(mode="json"),
            bits=bits,
            photos=self._digests[part],
        )
        return Task(name, part, recipe, bits, identity)


def _digest(split: Split) -> str:
    columns = [[part.ids, part.labels] for part in (split.gallery, split.queries)]
    return hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:16]


def _distinct(tasks: Iterable[Task]) -> list[Task]:
    """Rows of several groups may share a cell."""
    return list({task.name: task for task in tasks}.values())


def _line(record: Record) -> str:
    if record.failed:
        return f"{record.name}: failed, {record.failed}"
    figures = {"encoded": record.encoded, "learned": record.learned}
    told = ", ".join(f"{kind} {score.map_exact:.3f}" for kind, score in figures.items() if score)
    return f"{record.name}: {told}, {record.seconds:.0f} s"
