"""Small checkpoints, and photos that planted models know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from milvus_fghash.core.images import load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.explain.checkpoint_model import CheckpointModel
from milvus_fghash.explain.explain import open_model
from milvus_fghash.explain.model import Pixels
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.training.run import run_training
from tests.helpers.planted_models import PHOTOS, write_photos
from tests.helpers.quick_training import BITS, QUICK, Make


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_photos(tmp_path / "photos", [(number, key, label, split) for number, key, label, split, *_ in PHOTOS])


@pytest.fixture(scope="session")
def make(drawn_birds: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A checkpoint of a method, trained a little, with a linear head."""

    def make(name: str, *changes: str, setting: str = "frozen") -> CheckpointModel:
        recipe = load_recipe(f"{setting}-{name}", [*QUICK, "head.kind='linear'", *changes])
        out = tmp_path_factory.mktemp(name) / "run"
        run_training(recipe, BITS, drawn_birds, out, device="cpu")
        model = open_model(out, device="cpu")
        assert isinstance(model, CheckpointModel)
        return model

    return make


@pytest.fixture(scope="session")
def model(make: Make) -> CheckpointModel:
    return make("fcaenet", "method.options.boxes=7", "method.options.box_size=42", "method.options.box_at='centre'")


@pytest.fixture(scope="session")
def photos(drawn_birds: Dataset, model: CheckpointModel) -> Pixels:
    """(11, 64, 64, 3): more than a batch."""
    return np.stack([load(drawn_birds.file(row), model.preprocessing) for row in range(11)])
