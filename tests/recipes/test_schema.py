"""Recipes are read strictly, the command line has the last word, and those that ship can be used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from milvus_fghash.core.file_models import read_model
from milvus_fghash.errors import ConfigError
from milvus_fghash.methods import METHODS, card
from milvus_fghash.recipes.loader import (
    FOLDER,
    compose,
    load_recipe,
    method_names,
    recipe_names,
    setting_names,
)
from milvus_fghash.recipes.schema import Recipe

pytestmark = pytest.mark.full


def written(folder: Path, text: str) -> str:
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    return str(folder / "mine.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.epochs=3", r"unknown key 'training.epochs'. Did you mean epochs_per_round\?"),
        ("trainig.rounds=3", r"unknown key 'trainig'. Did you mean training\?"),
        ("head.kind=conv", r"head.kind: .*'linear' or 'mlp'.*got 'conv'"),
        ("training.rounds=0", r"training.rounds: .*greater than 0 \(got 0\)"),
        ("training.rounds=many", r"training.rounds: .*integer.*\(got 'many'\)"),
        ("training.rounds=2.5", r"training.rounds"),
        ("method.name.deeper=1", r"method.name"),
        ("preprocessing.size=512", r"preprocessing: resize must be at least size \(512\)"),
        ("by_bits.48.training.rouns=3", r"by_bits.48: unknown key 'training.rouns'. Did you mean rounds\?"),
        ("by_bits.many.training.rounds=3", r"by_bits"),
    ],
)
def test_what_does_not_fit_names_the_place_and_the_nearest_key(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("frozen-fcaenet", [change])


@pytest.mark.parametrize("change", ["training.rounds", "=3", "training..rounds=3", ".rounds=3", ""])
def test_a_change_that_is_none(change: str) -> None:
    with pytest.raises(ConfigError, match="a change of a recipe must be KEY=VALUE"):
        load_recipe("frozen-lsh", [change])


def test_values_are_toml_and_else_text() -> None:
    changes = [
        "training.drop_at=[1, 2]",
        "training.channels_last=true",
        "training.weight_decay=1e-5",
        "backbone.weights=../weights/mine.safetensors",
        "description='a = b'",
        "method.options.gamma=20",
    ]
    recipe = load_recipe("frozen-fcaenet", changes)
    assert recipe.training.drop_at == (1, 2)
    assert recipe.training.channels_last is True
    assert recipe.training.weight_decay == 1e-5
    assert recipe.backbone.weights == "../weights/mine.safetensors"
    assert recipe.description == "a = b"
    assert recipe.method.options == {"gamma": 20}


def test_the_last_change_counts() -> None:
    assert load_recipe("frozen-lsh", ["training.seed=1", "training.seed=2"]).training.seed == 2


RECIPE = """
[method]
name = "baseline"
[training]
rounds = 40
drop_at = [20, 30]
[by_bits.48.training]
rounds = 60
"""


def test_by_bits_changes_one_length_and_keeps_the_rest(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, RECIPE))
    assert [recipe.at(bits).training.rounds for bits in (12, 48)] == [40, 60]
    assert recipe.at(48).training.drop_at == (20, 30)
    assert recipe.at(48).by_bits == {}
    assert recipe.training.rounds == 40


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["training.rounds=3"], [3, 3]),
        (["by_bits.48.training.rounds=5"], [40, 5]),
        (["training.rounds=3", "by_bits.48.training.rounds=5"], [3, 5]),
        (["by_bits.48.training.rounds=5", "training.rounds=3"], [3, 3]),
        (["training.drop_at=[1]"], [40, 60]),
    ],
)
def test_the_command_line_is_not_undone_by_a_table_of_one_length(
    tmp_path: Path, changes: list[str], expected: list[int]
) -> None:
    recipe = load_recipe(written(tmp_path, RECIPE), changes)
    assert [recipe.at(bits).training.rounds for bits in (12, 48)] == expected


@pytest.mark.parametrize("table", ["by_bits = 3", "by_bits = { 48 = 3 }"])
def test_by_bits_that_is_no_table_is_rejected(tmp_path: Path, table: str) -> None:
    with pytest.raises(ConfigError, match="by_bits"):
        load_recipe(written(tmp_path, f'{table}\n[method]\nname = "lsh"'), ["training.rounds=3"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[method", "is not valid TOML"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"", "mine.toml is a setting"),
        (b"method = 3", "method"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(tmp_path / "mine.toml"))


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    for name, guess in (
        ("frozen-fcanet", "frozen-fcaenet or "),
        ("cub", r"cub-posterior-itq\? "),
        ("itq", r"frozen-itq or finetune-itq\? "),
    ):
        with pytest.raises(ConfigError, match=f"no recipe named '{name}'. Did you mean {guess}"):
            load_recipe(name)
    with pytest.raises(ConfigError, match=r"'zzz'. A recipe is .* SETTING-METHOD .* demo, .* methods a2net, "):
        load_recipe("zzz")
    with pytest.raises(ConfigError, match=r"cannot read the recipe .*gone.toml: No such file"):
        load_recipe(str(tmp_path / "gone.toml"))


def test_a_recipe_cannot_be_changed() -> None:
    recipe = load_recipe("frozen-lsh")
    with pytest.raises(ValidationError, match="frozen"):
        recipe.training.rounds = 3  # type: ignore[misc]


def test_each_recipe_has_a_head_that_its_method_can_have() -> None:
    recipes = [load_recipe(name) for name in recipe_names()]
    wrong = [
        (recipe.description, recipe.head.kind)
        for recipe in recipes
        if card(recipe.method.name).by_gradient and recipe.head.kind not in card(recipe.method.name).heads
    ]
    assert wrong == []


@pytest.mark.parametrize("name", recipe_names())
def test_each_shipped_recipe_can_be_used(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.method.name in METHODS
    assert recipe.description
    for bits in (8, 12, 48, 256, 1024):
        read_model(Recipe, recipe.at(bits).model_dump(), name)  # reads back as it was written


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_holds_no_path(name: str) -> None:
    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for inner in value.values() for text in texts(inner)]
        return [value] if isinstance(value, str) else []

    values = load_recipe(name).model_dump(exclude={"description"})
    factors = {"12/c"}  # as a paper writes it
    assert not [text for text in texts(values) if text not in factors and re.search(r"[/\\~]|\.\w+$", text)]
    assert load_recipe(name).backbone.weights in ("imagenet", "imagenet-v2", "none")


def test_every_method_has_one_file_and_the_file_its_name() -> None:
    assert set(method_names()) == set(METHODS)
    for name in method_names():
        values = tomllib.loads((FOLDER / "methods" / f"{name}.toml").read_text(encoding="utf-8"))
        assert values["method"]["name"] == name


SETTING = """
description = "here"
[training]
rounds = 7
[family.adsh.training]
rounds = 8
batch_size = 9
[only.fcaenet.training]
batch_size = 10
"""


def test_a_setting_wins_over_the_method_at_every_length_family_over_setting_and_one_over_family(tmp_path: Path) -> None:
    place = written(tmp_path, SETTING)
    assert load_recipe("cub-baseline").at(48).training.rounds == 60
    for bits in (12, 48):
        assert compose(place, "lsh").at(bits).training.rounds == 7
        baseline, fcaenet = (compose(place, name).at(bits).training for name in ("baseline", "fcaenet"))
        assert (baseline.rounds, baseline.batch_size) == (8, 9)
        assert (fcaenet.rounds, fcaenet.batch_size) == (8, 10)
        assert compose(place, "fcaenet", ["training.rounds=2"]).at(bits).training.rounds == 2
    assert compose(place, "lsh").description.endswith("; here")


def test_a_family_with_a_length_of_its_own_still_wins_at_the_others(tmp_path: Path) -> None:
    place = written(tmp_path, SETTING + "[family.adsh.by_bits.12.training]\nrounds = 11\n")
    rounds = {bits: compose(place, "baseline").at(bits).training.rounds for bits in (12, 24, 32, 48)}
    assert rounds == {12: 11, 24: 8, 32: 8, 48: 8}, "not 60, the method's own at 32 and 48 bits"


def leaves(table: dict[str, Any], *above: str) -> dict[tuple[str, ...], Any]:
    """Keys from the top down -> value."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in table.items():
        found |= leaves(value, *above, key) if isinstance(value, dict) else {(*above, key): value}
    return found


@pytest.mark.parametrize("name", recipe_names())
def test_the_table_of_one_length_holds_only_what_differs_there(name: str) -> None:
    recipe = load_recipe(name)
    everywhere = leaves(recipe.model_dump(mode="json", exclude={"by_bits"}))
    for table in recipe.by_bits.values():
        assert leaves(table)
        assert not [key for key, value in leaves(table).items() if everywhere.get(key) == value]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[only.fcanet.training]", "no method named 'fcanet' in .only.. Did you mean fcaenet"),
        ("[family.adhs.training]", "no family named 'adhs'. Did you mean adsh"),
        ("family = 3", "family must be a table"),
        ("[family.adsh.trainig]", "unknown key 'trainig'"),
    ],
)
def test_a_setting_is_read_strictly(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(written(tmp_path, text), "fcaenet")


def test_a_setting_or_method_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no setting named 'frozn' .*Did you mean frozen"):
        compose("frozn", "lsh")
    with pytest.raises(ConfigError, match=r"no method named 'lhs'\. Did you mean lsh"):
        compose("frozen", "lhs")


def test_a_recipe_where_a_setting_is_asked_for() -> None:
    with pytest.raises(
        ConfigError, match=r"cub-a2net-pp is a recipe; expected a setting: give cub, with the method a2net-pp"
    ):
        compose("cub-a2net-pp", "lsh")


def test_a_whole_recipe_is_a_setting_for_its_own_method_alone(tmp_path: Path) -> None:
    """Every method would have trained with its rates, and itself without its options."""
    text = "[method]\nname = 'fcaenet'\noptions = { alpha = 3 }\n[training]\nlearning_rate = 0.5\n"
    place = written(tmp_path, text)
    recipe = compose(place, "fcaenet")
    assert (recipe.method.options["alpha"], recipe.training.learning_rate) == (3, 0.5)
    with pytest.raises(ConfigError, match=r"mine.toml is a recipe of fcaenet, whose learning rates do not suit dpsh"):
        compose(place, "dpsh")


@pytest.mark.parametrize("text", ["[training]\nrounds = 3", "[method]\nname='lsh'\n[only.lsh.training]\nrounds = 3"])
def test_a_setting_where_a_recipe_is_asked_for(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"mine.toml is a setting, for comparisons"):
        load_recipe(written(tmp_path, text))


@pytest.mark.parametrize("name", setting_names())
def test_a_setting_names_no_method_twice(name: str) -> None:
    recipe = compose(name, "lsh")
    assert (recipe.method.name, recipe.description.count(";")) == ("lsh", 1)


def test_backbones_of_shipped_recipes_are_known() -> None:
    backbones = pytest.importorskip("milvus_fghash.training.backbones", reason="the extra `train` is not installed")
    assert {load_recipe(name).backbone.name for name in recipe_names()} <= set(backbones.BACKBONES)
