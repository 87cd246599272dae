"""What tests of several parts share."""

from __future__ import annotations

import pytest

from milvus_fghash.data.drawings import draw_birds
from milvus_fghash.data.listing import Listing


@pytest.fixture(scope="session")
def drawn_birds(tmp_path_factory: pytest.TempPathFactory) -> Listing:
    """4 classes of 6 train and 3 test pictures, 64 pixels a side."""
    folder = tmp_path_factory.mktemp("birds")
    return draw_birds(folder, classes=4, train_per_class=6, test_per_class=3, size=64)
