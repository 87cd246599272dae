"""Shards of a small bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.serving.encoder import Encoder
from tests.bulk.small_shards import SmallShards
from tests.serving.conftest import bundle, lite, new_name
from tests.serving.small_catalog import draw_photos
from tests.sources.conftest import bucket, running_store, store

__all__ = ["bucket", "bundle", "lite", "new_name", "running_store", "store"]


@pytest.fixture
def shards(bundle: Path, tmp_path: Path) -> SmallShards:
    """Of 40 photos, not built yet."""
    return SmallShards(Encoder.open(bundle), draw_photos(tmp_path / "photos"), tmp_path / "shards")
