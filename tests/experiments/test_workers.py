"""Trainings in worker processes: an error of one reaches the caller unchanged and ends the others."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import ConfigError
from milvus_fghash.experiments.cells import GridContext
from milvus_fghash.experiments.fits import split_dataset
from milvus_fghash.experiments.grid import Grid, GridSpec
from milvus_fghash.experiments.workers import run_tasks
from tests.helpers.made_up_records import BASELINE


def test_an_error_in_a_worker_reaches_the_caller_and_ends_the_others(drawn_birds: Dataset, tmp_path: Path) -> None:
    splits = split_dataset(drawn_birds, "train", "test", 0)
    context = GridContext(splits, tmp_path / "out", tmp_path / "features", "cpu")
    grid = Grid(GridSpec("demo", (BASELINE,), (8,), 2, changes=("training.rounds=9999",)), context)
    failing, endless = (grid.cell(BASELINE, 8, seed, 1.0) for seed in range(2))
    method = failing.recipe.method.model_copy(update={"name": "lhs"})
    failing = replace(failing, recipe=failing.recipe.model_copy(update={"method": method}))
    with pytest.raises(ConfigError, match="no method named 'lhs'"):
        list(run_tasks([failing, endless], context, 2, 1))
    assert multiprocessing.active_children() == []
