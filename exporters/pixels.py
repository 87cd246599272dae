"""Photos on which a network is compared with its ONNX file: generated birds, or the user's own."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np

from milvus_fghash.core.images import DEFAULT_LIMITS, Preprocessing, load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.read import detect, read
from milvus_fghash.datasets.sources.reader import read_source
from milvus_fghash.datasets.synthetic.drawings import draw_birds
from milvus_fghash.errors import DataError, ImageRejected
from milvus_fghash.exporters.check import Pixels

CLASSES = 8


def check_pixels(preprocessing: Preprocessing, count: int, photos: Path | None = None) -> Pixels:
    """(count, size, size, 3) uint8 of generated birds, or of a fixed random sample of `photos` (all if it has fewer).

    Args:
        photos: a folder, a list or an archive, of any layout.

    Raises:
        DataError: when no photo of `photos` can be read.
    """
    if photos is not None:
        return _load(read(detect(photos), photos), preprocessing, count)
    with tempfile.TemporaryDirectory() as temporary:
        size = min(max(preprocessing.resize, 32), 256)
        each = max(math.ceil(count / CLASSES) - 1, 1)
        birds = draw_birds(
            Path(temporary) / "birds", classes=CLASSES, train_per_class=1, test_per_class=each, size=size
        )
        return _load(birds, preprocessing, count)


def _load(dataset: Dataset, preprocessing: Preprocessing, count: int) -> Pixels:
    """The first `count` photos of a fixed shuffle that can be read."""
    pixels: list[Pixels] = []
    for row in np.random.default_rng(0).permutation(len(dataset)):
        try:
            place = dataset.source(row)
            source = place if isinstance(place, Path) else read_source(place, DEFAULT_LIMITS.max_bytes)
            pixels.append(load(source, preprocessing))
        except ImageRejected:
            continue  # the photos themselves are not under test
        if len(pixels) == count:
            break
    if not pixels:
        raise DataError(f"none of the {len(dataset)} photos in {dataset.origin} can be read; use others")
    return np.stack(pixels)
