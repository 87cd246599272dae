"""`recipes` lists what a recipe is made of and prints one that can be edited; `methods` says what each needs."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import Result

from milvus_fghash.methods import METHODS
from milvus_fghash.recipes.loader import compose, load_recipe, method_names, recipe_names, setting_names

pytestmark = pytest.mark.full

Run = Callable[..., Result]
LENGTHS = (12, 24, 32, 48)
PRINTED = ("cub-fcaenet", "frozen-baseline", "nabirds-a2net", "demo-fcaenet")


def test_settings_and_methods_are_listed_apart(run: Run) -> None:
    settings, methods, sentence = run("recipes").stdout.strip().split("\n\n")
    assert [line.split()[0] for line in settings.splitlines()] == ["setting", *setting_names()]
    assert [line.split()[0] for line in methods.splitlines()] == ["method", *method_names()]
    assert "CUB-200-2011" in settings
    assert sentence.startswith("A recipe is named SETTING-METHOD, such as ")


def test_as_json_the_list_has_every_recipe(run: Run) -> None:
    rows = json.loads(run("recipes", "--json").stdout)
    outcome = [row["name"] for row in rows]
    left_out = [name for name in recipe_names() if name not in outcome]
    assert sorted(outcome + left_out) == sorted(recipe_names())
    maps = [method for method, card in METHODS.items() if card.needs == "maps"]
    assert sorted(left_out) == sorted(f"frozen-{method}" for method in maps)
    result = run("recipes", left_out[0])
    assert result.exit_code == 1
    assert "Set backbone.frozen = false" in result.stderr
    assert all(row["name"] == f"{row['setting']}-{row['method']}" for row in rows)


def test_a_setting_is_printed_to_be_changed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(run("recipes", "frozen").stdout, encoding="utf-8")
    assert compose("mine.toml", "csq") == compose("frozen", "csq")
    assert run("recipes", "frozen", "--json").exit_code == 2


@pytest.mark.parametrize("name", PRINTED)
def test_a_printed_recipe_reads_back_the_same(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.toml").write_text(run("recipes", name).stdout, encoding="utf-8")
    for bits in LENGTHS:
        assert load_recipe("mine.toml").at(bits) == load_recipe(name).at(bits)


@pytest.mark.parametrize(
    ("name", "table", "key", "value", "other_lengths"),
    [
        *((name, "backbone", "name", "mine", ()) for name in PRINTED),
        *((name, "training", "batch_size", 7, ()) for name in PRINTED),
        ("cub-fcaenet", "training", "learning_rate", 0.5, ()),
        ("cub-fcaenet", "training", "rounds", 7, (32, 48)),
    ],
)
def test_an_edit_of_a_printed_recipe_counts_unless_its_length_has_that_key(
    run: Run, tmp_path: Path, name: str, table: str, key: str, value: Any, other_lengths: tuple[int, ...]
) -> None:
    printed = tomllib.loads(run("recipes", name).stdout)
    printed[table][key] = value
    (tmp_path / "mine.toml").write_text(tomli_w.dumps(printed), encoding="utf-8")
    for bits in LENGTHS:
        whole = load_recipe(name).at(bits) if bits in other_lengths else load_recipe(name, [f"{table}.{key}={value}"])
        assert load_recipe("mine.toml").at(bits) == whole.at(bits)


def test_the_commands_above_a_printed_recipe_name_its_method(run: Run) -> None:
    head = run("recipes", "cub-csq").stdout.partition("description")[0]
    assert "milvus-fghash train cub-csq " in head
    assert "milvus-fghash compare cub --methods csq " in head


@pytest.mark.parametrize(
    ("message", "methods"),
    [
        ("with 10, use a tenth", {"adsh", "baseline", "fcaenet"}),  # in a family's table
        ("weight decay sets how fast it changes", {"orthohash"}),  # before a method's first table
        ("all photos end up with one code.", {"adsh", "baseline", "fcaenet", "dpsh"}),
        ("The same budget for every method", {"adsh", "baseline", "fcaenet", "dpsh", "orthohash", "kinhash", "lsh"}),
    ],
)
def test_a_printed_recipe_has_no_advice_for_other_methods(run: Run, message: str, methods: set[str]) -> None:
    tried = ("adsh", "baseline", "fcaenet", "dpsh", "orthohash", "kinhash", "lsh")
    assert {name for name in tried if message in run("recipes", f"frozen-{name}").stdout} == methods


def test_the_table_of_methods_says_what_each_needs(run: Run) -> None:
    header, *lines = run("methods").stdout.splitlines()
    assert "needs" in header.split()
    assert {line.split()[0]: "maps" in line.split() for line in lines} == {
        name: card.needs == "maps" for name, card in METHODS.items()
    }
