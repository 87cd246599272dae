"""A grid of trainings, variants x code lengths x seeds: which cells there are, and running those not recorded yet.

OUT/trials.jsonl, OUT/cells.jsonl   one record per line, see `records`
OUT/codes/CELL.npz                  codes and class numbers of the queries and galleries
OUT/trainings/CELL/                 an unfinished training and its identity; removed when its cell is recorded
OUT/features/                       features of a frozen backbone, unless another folder is given
OUT/fits/FIT/                       the same of a grid that is fitted on other photos, see `fits`; no features
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.callbacks import Notify, StageProgress
from milvus_fghash.core.file_models import read_model
from milvus_fghash.experiments.cells import GridContext, Task
from milvus_fghash.experiments.fits import ALL_LABELLED, DEFAULT_PROTOCOLS, Fit, Phase, Split
from milvus_fghash.experiments.learning_rates import best_factor, rate_factors, trial_rate
from milvus_fghash.experiments.prepare import prepare
from milvus_fghash.experiments.records import ENCODED, LEARNED, Identity, Record, Store
from milvus_fghash.experiments.workers import run_tasks
from milvus_fghash.methods import card, check_backbone, load
from milvus_fghash.recipes.loader import compose
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.backbones import with_own_preprocessing
from milvus_fghash.training.draws import with_seed
from milvus_fghash.training.weights import by_content, decisive

TRIALS, CELLS = "trials.jsonl", "cells.jsonl"
KEEP_MARKER = "kept"
"""File in the folder of a training that `Grid.run` must not remove."""


@dataclass(frozen=True)
class Variant:
    """One line of the result tables: a method with a head and its own recipe changes."""

    label: str
    method: str
    head: str | None = None
    """None for a method without a choice of heads."""
    changes: tuple[str, ...] = ()
    """As for ``--set``. Variants of equal method, head and changes are one training."""
    group: str = ""
    """Heading of the table that lists the variant."""

    @property
    def name(self) -> str:
        """What is trained, without the label; fit for a file name."""
        changes = [change.replace("method.options.", "") for change in self.changes]
        words = [self.method, *changes, *([self.head] if self.head else [])]
        return "-".join(re.sub(r"[^\w.=]+", "_", word) for word in words)


Cell = tuple[Variant, int, int]
"""One training of the grid: (variant, bits, seed)."""


@dataclass(frozen=True)
class GridSpec:
    """What a grid consists of."""

    setting: str
    variants: tuple[Variant, ...]
    bits: tuple[int, ...]
    n_seeds: int
    trials: int = 1
    """Number of learning rates tried for each variant trained by gradient descent; 1 takes the recipe's rate."""
    trial_bits: tuple[int, ...] = ()
    """Code lengths of the trials; none: each length has its own trials."""
    changes: tuple[str, ...] = ()
    """Changes of the recipe of every variant."""
    fit: Fit = ALL_LABELLED
    """Which photos are trained on, and the protocols that follow."""
    protocols: tuple[str, ...] = DEFAULT_PROTOCOLS
    """Those to show, in all grids of one comparison."""

    @property
    def galleries(self) -> tuple[str, ...]:
        """What the tables show of this grid; protocol A has two galleries."""
        shown = [name for name in self.fit.protocols if name in self.protocols]
        return tuple(one for name in shown for one in ((ENCODED, LEARNED) if name == "A" else (name,)))

    def fitted_on(self, fit: Fit) -> GridSpec:
        """The same grid on other photos: the methods that can be fitted on them, and trials where they have labels."""
        variants = tuple(variant for variant in self.variants if fit.can_train(variant.method))
        return replace(self, fit=fit, variants=variants, trials=self.trials if fit.uses_labels else 1)

    def trial_bits_for(self, bits: int) -> int:
        """The length whose trials decide at ``bits``: the nearest in ratio, of two the longer."""
        return min(self.trial_bits or self.bits, key=lambda tried: (max(tried / bits, bits / tried), -tried))

    def cells(self) -> Iterator[Cell]:
        """In the order of training: the whole table for one seed, then for the next."""
        for seed in range(self.n_seeds):
            for variant in self.variants:
                for bits in self.bits:
                    yield variant, bits, seed


@dataclass
class Results:
    """The recorded cells and trials of a grid."""

    spec: GridSpec
    cells: dict[Cell, Record] = field(default_factory=dict)
    trials: dict[tuple[Variant, int], dict[float, Record]] = field(default_factory=dict)
    """(variant, bits of the trials) -> factor of the recipe's learning rate -> its trial; variants with trials only."""
    by_fit: tuple[Results, ...] = ()
    """Where the variants are fitted on several sets of photos, the results of each; ``cells`` is then empty."""

    @property
    def all_fits(self) -> tuple[Results, ...]:
        return self.by_fit or (self,)

    def of(self, gallery: str) -> list[Results]:
        """Those that have a gallery; several where classes are drawn several times."""
        return [one for one in self.all_fits if gallery in one.spec.galleries]

    def records(self, gallery: str, variant: Variant, bits: int) -> list[Record]:
        """The recorded cells of a variant at one length, over draws and seeds."""
        return [record for one in self.of(gallery) for record in one.seeds(variant, bits)]

    def seeds(self, variant: Variant, bits: int) -> list[Record]:
        """The recorded cells of a variant at one length, in the order of their seeds."""
        cells = ((variant, bits, seed) for seed in range(self.spec.n_seeds))
        return [self.cells[cell] for cell in cells if cell in self.cells]

    def rate_factor(self, variant: Variant, bits: int) -> float | None:
        """The factor of the variant's learning rate at one length; None while trials are missing or if all failed."""
        if not has_trials(self.spec, variant):
            return 1.0
        done = self._trials_for(variant, bits)
        return best_factor(done) if len(done) == self.spec.trials else None

    def all_trials_failed(self, variant: Variant, bits: int) -> bool:
        """Whether training failed with every learning rate, so that there will be no cells."""
        done = self._trials_for(variant, bits)
        return len(done) == self.spec.trials and best_factor(done) is None

    def _trials_for(self, variant: Variant, bits: int) -> dict[float, Record]:
        """The trials that decide for the variant at a length."""
        return self.trials.get((variant, self.spec.trial_bits_for(bits)), {})


def has_trials(spec: GridSpec, variant: Variant) -> bool:
    return spec.trials > 1 and card(variant.method).by_gradient


class Grid:
    """A grid on the photos of a data set, in a folder."""

    def __init__(self, spec: GridSpec, context: GridContext) -> None:
        self.spec, self.context = spec, context
        self._digests = {phase: _digest(split) for phase, split in context.splits.items()}
        self._base = cache(self._recipe_of)
        self._at = cache(lambda variant, bits: self._base(variant).at(bits))

    def run(
        self,
        *,
        jobs: int = 1,
        threads: int | None = None,
        keep_trainings: bool = False,
        notify: Notify = lambda line: None,
        progress: StageProgress = lambda done, total, what: None,
    ) -> Results:
        """Run the missing trials, then the missing cells.

        Args:
            jobs: number of trainings in parallel, each in its own process.
            threads: torch threads per training; default: torch's number divided by the jobs.
            keep_trainings: keep the checkpoints of finished cells.
            notify: called with a line for each finished training.
            progress: called with the progress of the current stage.

        Returns:
            All recorded results, those of earlier runs too.

        Raises:
            ConfigError: when the recipe of a variant is wrong, the folder holds results of other settings, or another
                grid is running there.
            FghashError: whatever a training raises; what was recorded before stays.
        """

        def work(tasks: list[Task], store: Store) -> None:
            missing = []
            for task in tasks:
                if store.find(task.name, task.identity) is None:
                    missing.append(task)
                elif not (self.context.training(task) / KEEP_MARKER).exists():  # a kill between record and removal
                    self._remove_training(task)
            with closing(run_tasks(missing, self.context, jobs, threads)) as finished:
                for number, (task, record) in enumerate(finished, 1):
                    if keep_trainings:
                        write_atomic(self.context.training(task) / KEEP_MARKER, b"")
                    store.append(record)
                    if not keep_trainings:
                        self._remove_training(task)
                    notify(f"[{number}/{len(missing)}] {_line(record)}")
                    progress(number, len(missing), "trainings")

        with Store(self.context.out / TRIALS) as trials, Store(self.context.out / CELLS) as cells:
            # Check the cells before the trials run. Which learning rate they will have makes no difference.
            trial_tasks = _distinct(self._trials().values())
            cell_tasks = _distinct(self.cell(*cell, 1.0) for cell in self.spec.cells())
            missing = [task for task in trial_tasks if task.name not in trials.records]
            missing += [task for task in cell_tasks if task.name not in cells.records]
            prepare(missing, self.context, progress)
            work(trial_tasks, trials)
            results = self._collect(trials, cells)
            work(_distinct(self._cells(results).values()), cells)
            return self._collect(trials, cells)

    def read_results(self) -> Results:
        """The results recorded so far, also while the grid is running in another process.

        Raises:
            ConfigError: as `run`.
        """
        out = self.context.out
        with Store(out / TRIALS, writing=False) as trials, Store(out / CELLS, writing=False) as cells:
            return self._collect(trials, cells)

    def _collect(self, trials: Store, cells: Store) -> Results:
        results = Results(self.spec)
        for (variant, bits, factor), task in self._trials().items():
            if (record := trials.find(task.name, task.identity)) is not None:
                results.trials.setdefault((variant, bits), {})[factor] = record
        for cell, task in self._cells(results).items():
            if (record := cells.find(task.name, task.identity)) is not None:
                results.cells[cell] = record
        return results

    def _trials(self) -> dict[tuple[Variant, int, float], Task]:
        """All trials, in the order of training."""
        spec = self.spec
        return {
            (variant, bits, factor): self.trial(variant, bits, factor)
            for variant in spec.variants
            if has_trials(spec, variant)
            for bits in spec.trial_bits or spec.bits
            for factor in rate_factors(spec.trials)
        }

    def _cells(self, results: Results) -> dict[Cell, Task]:
        """The cells whose learning rate is known, in the order of training."""
        return {
            (variant, bits, seed): self.cell(variant, bits, seed, factor)
            for variant, bits, seed in self.spec.cells()
            if (factor := results.rate_factor(variant, bits)) is not None
        }

    def _remove_training(self, task: Task) -> None:
        shutil.rmtree(self.context.training(task), ignore_errors=True)

    def trial(self, variant: Variant, bits: int, factor: float) -> Task:
        """Seed 0 with the recipe's learning rate times ``factor``."""
        recipe = self._recipe(variant, bits, 0, factor)
        return self._task(f"{variant.name}-{bits}bits-rate{factor:.3g}", "trial", recipe, bits)

    def cell(self, variant: Variant, bits: int, seed: int, factor: float) -> Task:
        recipe = self._recipe(variant, bits, seed, factor)
        return self._task(f"{variant.name}-{bits}bits-seed{seed}", "test", recipe, bits)

    def _recipe_of(self, variant: Variant) -> Recipe:
        head = [f"head.kind={variant.head}"] if variant.head else []
        recipe = compose(self.spec.setting, variant.method, [*self.spec.changes, *head, *variant.changes])
        check_backbone(variant.method, frozen=recipe.backbone.frozen)
        return with_own_preprocessing(recipe)

    def _recipe(self, variant: Variant, bits: int, seed: int, factor: float) -> Recipe:
        recipe = with_seed(self._at(variant, bits), seed)
        rate = trial_rate(recipe.training.learning_rate, factor)
        training = recipe.training.model_copy(update={"learning_rate": rate})
        data = recipe.data.model_copy(update={"validation": 0.0})  # trials hold out photos in their own way
        return recipe.model_copy(update={"training": training, "data": data})

    def _task(self, name: str, phase: Phase, recipe: Recipe, bits: int) -> Task:
        config = read_model(
            load(recipe.method.name).Config, recipe.method.options, f"method.options of {recipe.method.name}"
        )
        identity = Identity(
            recipe=decisive(by_content(recipe)),
            options=config.model_dump(mode="json"),
            bits=bits,
            photos=self._digests[phase],
        )
        return Task(name, phase, recipe, bits, identity)


def _digest(split: Split) -> str:
    known = split.labels[: len(split.fitted)]
    columns: list[tuple[str, ...] | list[tuple[str, ...]]] = [[split.fitted.ids, known]]
    columns.append([split.others.ids, split.others.labels])
    if split.fitted.labels != known:  # which of the labels are used
        columns.append(split.fitted.labels)
    return hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:16]


def _distinct(tasks: Iterable[Task]) -> list[Task]:
    """Variants of several groups may share a cell."""
    return list({task.name: task for task in tasks}.values())


def _line(record: Record) -> str:
    if record.failed:
        return f"{record.name}: failed, {record.failed}"
    figures = ", ".join(f"{kind} {score.map_exact:.3f}" for kind, score in record.scores.items())
    return f"{record.name}: mAP {figures}, {record.seconds:.0f} s"
