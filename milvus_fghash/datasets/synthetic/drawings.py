"""A small fine-grained data set of generated drawings: birds that differ in small parts, drawn by Pillow."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts import folder as photo_folder
from milvus_fghash.datasets.synthetic.bird import CAPS, Kind, draw_bird
from milvus_fghash.datasets.synthetic.scenery import draw_background, light
from milvus_fghash.errors import DataError

MAX_CLASSES = 48


def kinds(classes: int) -> list[Kind]:
    """The first ``classes`` of the 48 kinds. Each has neighbours that differ from it in one or two parts.

    >>> [kind.name.split("_")[0] for kind in kinds(3)]
    ['red-cap', 'black-cap', 'yellow-cap']

    Raises:
        DataError: for fewer than 2 or more than 48 classes.
    """
    if not 2 <= classes <= MAX_CLASSES:
        raise DataError(f"cannot draw {classes} classes; choose 2 to {MAX_CLASSES}")
    every = [
        # in the first twelve, tail and bill depend on the other parts, so that all five parts vary
        Kind(
            cap,
            barred,
            spotted,
            long_tail=rare_tail ^ barred ^ (cap == "black"),
            thick_bill=rare_bill ^ barred ^ spotted,
        )
        for rare_bill in (False, True)
        for rare_tail in (False, True)
        for spotted in (False, True)
        for barred in (False, True)
        for cap in CAPS
    ]
    return every[:classes]


def draw(kind: Kind, size: int, rng: np.random.Generator) -> Image.Image:
    """One picture, (size, size) RGB: pose, place, light and background come from ``rng`` alone."""
    picture = draw_background(size, rng)
    bird = draw_bird(kind, size, rng)
    picture.paste(bird, mask=bird)
    return light(picture, rng)


def draw_birds(
    folder: Path,
    *,
    classes: int = 12,
    train_per_class: int = 40,
    test_per_class: int = 15,
    size: int = 128,
    seed: int = 0,
) -> Dataset:
    """Draw train/CLASS/*.jpg and test/CLASS/*.jpg below ``folder`` and list them.

    Equal arguments give equal pictures. Every picture has its own seed (seed, split, class, number), so none is in both
    splits. The folder appears when all pictures are drawn.

    Raises:
        DataError: when ``folder`` exists and is not empty, cannot be written, or a number is out of range.
    """
    if min(train_per_class, test_per_class) < 1:
        raise DataError(
            f"cannot draw {train_per_class} train and {test_per_class} test pictures of a class; expected at least 1"
        )
    chosen = range(len(kinds(classes)))
    return draw_splits(folder, {"train": (chosen, train_per_class), "test": (chosen, test_per_class)}, size, seed)


def draw_splits(folder: Path, splits: Mapping[str, tuple[Sequence[int], int]], size: int, seed: int = 0) -> Dataset:
    """Draw SPLIT/CLASS/*.jpg below ``folder`` and list them, as `draw_birds` does for two splits of all classes.

    Args:
        splits: split -> numbers of its kinds among the 48, and pictures per kind. The seed of a picture includes the
            position of its split, so that the pictures of a kind differ between splits.

    Raises:
        DataError: as `draw_birds`.
    """
    if not 32 <= size <= 1024:
        raise DataError(f"cannot draw pictures of {size} pixels; expected a size of 32 to 1024")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is not an empty folder; choose a new one for the drawings")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as working:
            drawn = Path(working) / "drawn"
            _draw_all(drawn, splits, size, seed)
            if folder.exists():
                folder.rmdir()
            os.replace(drawn, folder)
    except OSError as error:
        raise DataError(f"cannot write drawings to {folder}: {error.strerror}; choose another folder") from error
    return photo_folder.read(folder)


def _draw_all(folder: Path, splits: Mapping[str, tuple[Sequence[int], int]], size: int, seed: int) -> None:
    every = kinds(MAX_CLASSES)
    for split_number, (split, (chosen, count)) in enumerate(splits.items()):
        for kind_number in chosen:
            place = folder / split / every[kind_number].name
            place.mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng([seed, split_number, kind_number, number])
                draw(every[kind_number], size, rng).save(place / f"{number:04}.jpg", quality=92)
