"""What the papers print of their schedules stands in the recipes, and is what a training of that length gets."""

from __future__ import annotations

from typing import Any

import pytest

from milvus_fghash.methods import METHODS
from milvus_fghash.recipe_book import load_recipe

PHOTOS_A_ROUND = {"cub": 2000, "aircraft": 2000, "food101": 2000, "nabirds": 4000, "vegfru": 4000}
KEYS = ("rounds", "epochs_per_round", "batch_size", "learning_rate", "drop_at", "momentum", "weight_decay")
ALL = (12, 24, 32, 48)
PRINTED: dict[tuple[str, tuple[int, ...]], tuple[Any, ...]] = {
    ("adsh", ALL): (50, 3, 64, 1e-3, (10, 20, 30, 40), 0.0, 5e-4),
    ("baseline", (12, 24)): (40, 20, 64, 1e-3, (20, 30), 0.9, 1e-5),
    ("baseline", (32, 48)): (60, 20, 64, 1e-3, (30, 45, 55), 0.9, 1e-5),
    ("fcaenet", (12, 24)): (40, 20, 64, 1e-3, (20, 30), 0.9, 1e-5),
    ("fcaenet", (32, 48)): (60, 20, 64, 1e-3, (30, 45, 55), 0.9, 1e-5),
    ("exchnet", ALL): (40, 30, 16, 1e-4, (35,), 0.9, 1e-4),
    ("a2net", ALL): (40, 30, 16, 1e-4, (35,), 0.9, 1e-4),
    ("semicon", ALL): (40, 30, 16, 2.5e-4, (), 0.91, 1e-4),
    ("agmh", ALL): (40, 30, 16, 1e-3, (), 0.9, 1e-4),
}
"""(method, code lengths) -> values of `KEYS`; a drop after the last round is left out."""
ELSEWHERE = {(setting, "semicon"): (50, 30, 16, 5e-4, (45,), 0.91, 1e-4) for setting in ("nabirds", "vegfru")}
"""(setting, method) -> the same, where the authors train otherwise."""
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


@pytest.mark.parametrize("name", [name for name, card in METHODS.items() if card.learns.startswith("network")])
@pytest.mark.parametrize("setting", PHOTOS_A_ROUND)
def test_photos_a_round_are_those_of_the_set_or_all(setting: str, name: str) -> None:
    drawn = 0 if name in {"dpsh", "kinhash"} else PHOTOS_A_ROUND[setting]
    assert load_recipe(f"{setting}-{name}").training.samples_per_round == drawn
