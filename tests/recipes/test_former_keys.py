"""Recipes from before 0.1.0: the backbone was `trunk`, the layout `data.dataset`."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.errors import ConfigError
from milvus_fghash.recipes.loader import compose, load_recipe
from milvus_fghash.recipes.schema import Recipe

RECIPE = """
[method]
name = "kinhash"
[data]
dataset = "cub"
[trunk]
name = "tiny"
frozen = true
[training]
trunk_factor = 0.5
[by_bits.12.trunk]
views = 2
"""
SETTING = """
description = "mine"
[trunk]
name = "resnet18"
[family.class-codes.trunk]
views = 7
[only.kinhash.training]
trunk_factor = 0.25
"""


def written(folder: Path, text: str) -> str:
    file = folder / "mine.toml"
    file.write_text(text)
    return str(file)


def test_a_recipe_with_former_keys_is_read_and_changed_under_either_name(tmp_path: Path) -> None:
    for change in ("trunk.views=3", "backbone.views=3"):
        recipe = load_recipe(written(tmp_path, RECIPE), [change])
        assert (recipe.backbone.name, recipe.backbone.frozen, recipe.backbone.views) == ("tiny", True, 3)
        assert (recipe.data.layout, recipe.training.backbone_factor) == ("cub", 0.5)
        assert recipe.at(12).backbone.views == 3  # a change counts at every code length
    assert load_recipe(written(tmp_path, RECIPE)).at(12).backbone.views == 2


def test_a_setting_with_former_keys_overrides_what_a_method_says(tmp_path: Path) -> None:
    recipe = compose(written(tmp_path, SETTING), "kinhash")
    assert (recipe.backbone.name, recipe.backbone.views) == ("resnet18", 7)
    assert recipe.training.backbone_factor == 0.25


@pytest.mark.parametrize("table", ["[backbone]\nname = 'tiny'", "[by_bits.12.backbone]\nviews = 1"])
def test_a_table_under_both_names_is_rejected(tmp_path: Path, table: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml: trunk is the former name of backbone; give backbone alone"):
        load_recipe(written(tmp_path, f"{RECIPE}{table}\n"))


def test_what_is_written_has_the_present_keys() -> None:
    values = Recipe.model_validate({"method": {"name": "lsh"}, "trunk": {"name": "tiny"}}).model_dump()
    assert values["backbone"]["name"] == "tiny"
    assert "trunk" not in values
