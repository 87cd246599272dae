"""A recipe of the demo setting that trains in a second, and the weights of what it trained."""

from __future__ import annotations

from pathlib import Path

import torch

from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.checkpoint import load_checkpoint

QUICK = ("preprocessing.size=32", "preprocessing.resize=32", "training.rounds=3", "training.epochs_per_round=2",
         "training.batch_size=6", "training.drop_at=[2]", "training.workers=0")  # fmt: skip
FROZEN = ("backbone.frozen=true", "backbone.views=2", "head.standardise=true", "head.kind='mlp'", "head.hidden=16")


def recipe(name: str = "fcaenet", *changes: str) -> Recipe:
    return load_recipe(f"demo-{name}", (*QUICK, *changes))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder).method.state_dict()
