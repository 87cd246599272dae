"""The records below docs/results are of what the shipped recipes say today, so a grid that starts from them goes on.

And the tables that are written by hand say what stands in them.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from milvus_fghash.core.file_models import read_model
from milvus_fghash.experiments.learning_rates import rate_factors, trial_rate
from milvus_fghash.experiments.records import Record
from milvus_fghash.methods import card, load
from milvus_fghash.recipes.loader import compose
from milvus_fghash.recipes.schema import Recipe

pytestmark = pytest.mark.full

RESULTS = Path(__file__).parents[1] / "docs" / "results"
FEW_CLASSES = ("training.learning_rate=0.0005",)
CHANGED = {"food-10-frozen": dict.fromkeys(("adsh", "baseline", "fcaenet"), FEW_CLASSES)}
"""Folder -> method -> what the commands in docs/results.md change."""
FORMER = {"itq", "dsh", "kinhash"}
"""Methods whose recipes or options changed after the records were made; docs/results.md says so."""


def without_chosen(recipe: Recipe) -> dict[str, object]:
    """What neither the command's files nor the grid's rates and seeds say."""
    values = recipe.model_dump(exclude={"description", "by_bits"})
    values["backbone"].pop("weights")
    values["training"] = {
        key: value for key, value in values["training"].items() if key not in ("learning_rate", "seed")
    }
    values["method"]["options"].pop("seed", None)
    return values


@pytest.mark.parametrize(
    "file", sorted(RESULTS.glob("*-frozen/*.jsonl")), ids=lambda file: f"{file.parent.name}-{file.stem}"
)
def test_records_are_of_todays_recipes(file: Path) -> None:
    records = [Record.model_validate_json(line) for line in file.read_text().splitlines()]
    assert records
    for record in records:
        ran, bits = record.identity.recipe, record.identity.bits
        method = ran.method.name
        if method in FORMER:
            continue
        changes = CHANGED.get(file.parent.name, {}).get(method, ())
        head = [f"head.kind='{ran.head.kind}'"] if card(method).by_gradient else []
        recipe = compose("frozen", method, [*changes, *head]).at(bits)
        assert without_chosen(ran) == without_chosen(recipe), record.name
        rates = [trial_rate(recipe.training.learning_rate, factor) for factor in rate_factors(3)]
        assert ran.training.learning_rate in rates, record.name
        seed = {"seed": ran.method.options["seed"]} if "seed" in ran.method.options else {}
        config = read_model(load(method).Config, {**recipe.method.options, **seed}, method)
        assert config.model_dump(mode="json") == record.identity.options, record.name


def rows_of(folder: str) -> dict[tuple[str, str, str], list[str]]:
    """(gallery, method, head) -> "mean ± deviation" over seeds, by code length."""
    scores: dict[tuple[str, str, str, int], list[float]] = defaultdict(list)
    for line in (RESULTS / folder / "cells.jsonl").read_text().splitlines():
        record = Record.model_validate_json(line)
        recipe = record.identity.recipe
        head: str = recipe.head.kind if card(recipe.method.name).by_gradient else "–"
        for gallery, score in (("encoded", record.encoded), ("learned", record.learned)):
            if score:
                scores[gallery, recipe.method.name, head, record.identity.bits].append(score.map_exact)
    rows: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for gallery, method, head, bits in sorted(scores):
        values = scores[gallery, method, head, bits]
        assert len(values) == 3
        rows[gallery, method, head].append(f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}")
    return rows


@pytest.mark.parametrize("folder", ["cub_100-frozen", "food-10-frozen"])
def test_the_tables_of_the_results_are_those_of_the_records(folder: str) -> None:
    text = (RESULTS.parent / "results.md").read_text()
    for (gallery, method, head), scores in rows_of(folder).items():
        source = {"encoded": "", "learned": " V |" if card(method).learns == "network+codes" else " class codes |"}[
            gallery
        ]
        assert f"\n| {method} | {head} |{source} {' | '.join(scores)} |\n" in text


def test_the_readmes_table_is_that_of_the_results() -> None:
    readme = (RESULTS.parents[1] / "README.md").read_text()
    results = (RESULTS.parent / "results.md").read_text()
    header = re.search(r"^\| gallery \| (.+) \|$", readme, re.MULTILINE)
    assert header
    methods = [name.strip("`") for name in header[1].split(" | ")]
    lines = re.findall(r"^\| ([A-E]2?): [^|]+ \| (.+) \|$", readme, re.MULTILINE)
    assert [protocol for protocol, _ in lines] == ["B", "C", "D", "E2", "A"]
    for protocol, cells in lines:
        for method, cell in zip(methods, cells.split(" | "), strict=True):
            found = re.search(rf"^\| {protocol} \| {method} \| (.+) \|$", results, re.MULTILINE)  # the first encoder
            columns = found[1].split("|") if found else []
            measured = columns[0 if method == "floats" else 3].rpartition(" / ")[0].strip() if found else "–"
            assert cell == measured, f"{protocol} {method}"


def test_the_table_of_fine_tuned_methods_is_that_of_the_records() -> None:
    text = (RESULTS.parent / "results.md").read_text()
    records = [
        Record.model_validate_json(line) for line in (RESULTS / "cub_100-finetune/cells.jsonl").read_text().splitlines()
    ]
    assert len(records) == 12
    for record in records:
        assert record.learned
        assert record.encoded
        scores = f"{record.learned.map_exact:.3f} | {record.encoded.map_exact:.3f}"
        method, minutes = record.identity.recipe.method.name, round(record.seconds / 60)
        assert f"\n| {method} | {record.identity.bits} | {scores} | {minutes} |\n" in text
