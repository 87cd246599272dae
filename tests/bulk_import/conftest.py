"""Shards of a small bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.encoding.encoder import Encoder
from tests.helpers.small_catalog import draw_photos
from tests.helpers.small_shards import SmallShards


@pytest.fixture
def shards(bundle: Path, tmp_path: Path) -> SmallShards:
    """Of 40 photos, not built yet."""
    return SmallShards(Encoder.open(bundle), draw_photos(tmp_path / "photos"), tmp_path / "shards")
