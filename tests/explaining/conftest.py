"""Small checkpoints, and photos that planted models know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from milvus_fghash.data.listing import Listing
from milvus_fghash.explaining.model import Pixels, open_model
from milvus_fghash.explaining.trained import Trained
from milvus_fghash.images import load
from milvus_fghash.recipe_book import load_recipe
from milvus_fghash.training.run import train
from tests.explaining.planted import PHOTOS, write_photos
from tests.explaining.quick import BITS, QUICK, Make


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    return write_photos(tmp_path / "photos", [(number, key, label, split) for number, key, label, split, *_ in PHOTOS])


@pytest.fixture(scope="session")
def make(drawn_birds: Listing, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A checkpoint of a method, trained a little, with a linear head."""

    def make(name: str, *changes: str, setting: str = "frozen") -> Trained:
        recipe = load_recipe(f"{setting}-{name}", [*QUICK, *changes])
        out = tmp_path_factory.mktemp(name) / "run"
        train(recipe, BITS, drawn_birds, out, device="cpu")
        model = open_model(out, device="cpu")
        assert isinstance(model, Trained)
        return model

    return make


@pytest.fixture(scope="session")
def model(make: Make) -> Trained:
    return make("fcaenet", "method.options.boxes=7", "method.options.box_size=42", "method.options.box_at='centre'")


@pytest.fixture(scope="session")
def photos(drawn_birds: Listing, model: Trained) -> Pixels:
    """(11, 64, 64, 3): more than a batch."""
    return np.stack([load(drawn_birds.file(row), model.preprocessing) for row in range(11)])
