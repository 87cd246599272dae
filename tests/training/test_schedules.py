"""What the papers print of their schedules stands in the recipes, and is what a training of that length gets."""

from __future__ import annotations

from typing import Any

import pytest

from milvus_fghash.methods import METHODS, load
from milvus_fghash.recipes.loader import load_recipe

PHOTOS_A_ROUND = {"cub": 2000, "aircraft": 2000, "food101": 2000, "nabirds": 4000, "vegfru": 4000}
KEYS = ("rounds", "epochs_per_round", "batch_size", "learning_rate", "drop_at", "momentum", "weight_decay", "nesterov")
ALL = (12, 24, 32, 48)
PRINTED: dict[tuple[str, tuple[int, ...]], tuple[Any, ...]] = {
    ("adsh", ALL): (50, 3, 64, 1e-3, (11, 21, 31, 41), 0.0, 5e-4, False),
    ("baseline", (12, 24)): (40, 20, 64, 1e-3, (20, 30), 0.9, 1e-5, False),
    ("baseline", (32, 48)): (60, 20, 64, 1e-3, (30, 45, 55), 0.9, 1e-5, False),
    ("fcaenet", (12, 24)): (40, 20, 64, 1e-3, (20, 30), 0.9, 1e-5, False),
    ("fcaenet", (32, 48)): (60, 20, 64, 1e-3, (30, 45, 55), 0.9, 1e-5, False),
    ("exchnet", ALL): (40, 30, 16, 1e-4, (35,), 0.9, 1e-4, False),
    ("a2net", ALL): (40, 30, 16, 1e-4, (35,), 0.9, 1e-4, False),
    ("semicon", ALL): (40, 30, 16, 2.5e-4, (), 0.91, 1e-4, True),
    ("agmh", ALL): (40, 30, 16, 1e-3, (), 0.9, 1e-4, True),
    ("dsh", ALL): (40, 30, 16, 1e-3, (35,), 0.9, 1e-4, False),
    ("hashnet", ALL): (40, 30, 16, 3e-4, (35,), 0.9, 5e-4, False),
    ("csq", ALL): (40, 30, 16, 1e-3, (35,), 0.9, 1e-4, False),
    ("orthohash", ALL): (40, 30, 16, 1e-4, (35,), 0.9, 5e-4, False),
    ("fish", ALL): (40, 30, 16, 1e-2, (5, 15, 35), 0.9, 0.0, False),
}
"""(method, code lengths) -> values of `KEYS`; a drop after the last round is left out."""
ELSEWHERE = {(setting, "semicon"): (50, 30, 16, 5e-4, (45,), 0.91, 1e-4, True) for setting in ("nabirds", "vegfru")}
"""(setting, method) -> the same, where the authors train otherwise."""
OPTIONS: dict[str, dict[str, Any]] = {
    "adsh": {"scale": "none", "gamma": 200},
    "baseline": {"scale": "12/c", "gamma": 200},
    "fcaenet": {"scale": "12/c", "gamma": 200, "boxes": 50, "box_size": 32},
    "a2net": {"scale": "12/c", "gamma": 200, "n_maps": "bits", "normalise": False, "decorrelate_from": "half"},
    "a2net-pp": {"n_maps": "bits", "codes": 4, "image_first": 0.01, "image_second": 0.1, "decorrelate_from": "start"},
    "exchnet": {"scale": "12/c", "gamma": 0, "n_maps": 4, "threshold": 0.4, "exchange_from": 35 / 40, "exchanged": 0.5},
    "semicon": {"scale": "12/c", "gamma": 200},
    "agmh": {"scale": "12/c", "gamma": 200, "descriptors": 6, "dispersion": 0.5},
    "hashnet": {"alpha": 0.1, "stages": 40 * 30 / 15},
    "csq": {"quantisation": 0.1},
    "dpn": {"margin": 1, "weight": 0.1},
    "orthohash": {"scale": 8, "margin": 0.2},
}
"""Method -> what is printed of its other constants."""
CASES = [
    (setting, method, bits, ELSEWHERE.get((setting, method), values))
    for (method, lengths), values in PRINTED.items()
    for setting in PHOTOS_A_ROUND
    for bits in lengths
]


@pytest.mark.parametrize(("setting", "method", "bits", "values"), CASES)
def test_a_schedule_is_as_printed(setting: str, method: str, bits: int, values: tuple[Any, ...]) -> None:
    plan = load_recipe(f"{setting}-{method}").at(bits).training
    assert tuple(getattr(plan, key) for key in KEYS) == values
    assert plan.samples_per_round == PHOTOS_A_ROUND[setting]
    assert plan.schedule == "steps"


@pytest.mark.parametrize("method", OPTIONS)
@pytest.mark.parametrize("setting", PHOTOS_A_ROUND)
def test_constants_are_as_printed(setting: str, method: str) -> None:
    recipe = load_recipe(f"{setting}-{method}").at(12)
    options = load(method).Config.model_validate(recipe.method.options).model_dump()
    assert {key: options[key] for key in OPTIONS[method]} == OPTIONS[method]


@pytest.mark.parametrize("method", ["a2net", "a2net-pp"])
@pytest.mark.parametrize("setting", ["cub", "finetune"])
def test_attribute_maps_are_a_published_form(setting: str, method: str) -> None:
    """Four maps, each part scaled to length 1, or one map for each bit, unscaled."""
    options = load_recipe(f"{setting}-{method}").method.options
    assert options.get("normalise", False) == (options["n_maps"] != "bits")


@pytest.mark.parametrize("method", ["exchnet", "a2net", "a2net-pp"])
def test_parts_of_one_length_train_fast_at_every_code_length(method: str) -> None:
    recipe = load_recipe(f"finetune-{method}")
    assert recipe.method.options["normalise"]
    for bits in ALL:
        assert (recipe.at(bits).training.learning_rate, recipe.at(bits).training.backbone_factor) == (0.01, 0.1)


def test_of_fifty_rounds_forty_pass_before_exchnet_exchanges() -> None:
    recipe = load_recipe("cifar10-exchnet")
    assert int(recipe.method.options["exchange_from"] * recipe.training.rounds) == 40
    assert recipe.training.rounds == 50


@pytest.mark.parametrize("name", [name for name, card in METHODS.items() if card.by_gradient])
@pytest.mark.parametrize("setting", PHOTOS_A_ROUND)
def test_photos_a_round_are_those_of_the_set_or_all(setting: str, name: str) -> None:
    drawn = 0 if name in {"dpsh", "kinhash", "posterior-itq"} else PHOTOS_A_ROUND[setting]
    assert load_recipe(f"{setting}-{name}").training.samples_per_round == drawn
