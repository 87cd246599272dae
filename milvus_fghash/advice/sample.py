"""What photos there are, and a sample of them that is small enough to measure on, without copies and broken files."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.advice.result import Survey
from milvus_fghash.core.callbacks import StageProgress
from milvus_fghash.core.images import Preprocessing, open_rgb
from milvus_fghash.core.labels import ranks_in_class
from milvus_fghash.core.perceptual_hash import MAX_COPY_DISTANCE, NO_HASH, perceptual_hash
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.dedupe.hash_pairs import near_pairs
from milvus_fghash.dedupe.union_find import UnionFind
from milvus_fghash.errors import DataError, ImageRejected

FEWEST_OF_A_CLASS: Final = 8
"""Photos that classes of the sample should have."""
FEWEST_PHOTOS: Final = 60


def take_sample(dataset: Dataset, most: int, seed: int, progress: StageProgress) -> tuple[Dataset, Survey]:
    """A sample, and what is known of all photos.

    Raises:
        DataError: when there are too few photos, all labels are one class, or photos can have several classes.
    """
    if dataset.has_label_sets:
        raise DataError(f"photos in {dataset.origin} can have several classes each, which is not measured here")
    if len({*dataset.labels} - {""}) == 1:
        raise DataError(
            f"all labels in {dataset.origin} are one class, {next(filter(None, dataset.labels))!r}; expected at least "
            "two classes, or a list of photos without labels"
        )
    rows = np.sort(sample_order(dataset.labels, seed)[:most])
    hashes = _hashes(dataset, rows, progress)
    readable = np.array([value is not None for value in hashes])
    rows, values = rows[readable], np.array([value for value in hashes if value is not None], np.int64)
    kept = rows[~is_copy(values)]
    if len(kept) < FEWEST_PHOTOS:
        raise DataError(
            f"{dataset.origin} has {len(kept)} different photos that can be read; at least {FEWEST_PHOTOS} are needed "
            "to measure anything. Add photos"
        )
    sample = dataset.take(kept)
    counts = Counter(label for label in dataset.labels if label)
    sizes = sorted(counts.values()) or [0]
    return sample, Survey(
        photos=len(dataset),
        classes=len(counts),
        without_class=dataset.labels.count(""),
        class_sizes=(sizes[0], round(statistics.median(sizes)), sizes[-1]),
        **measured_photos(sample),
        unreadable=int((~readable).sum()),
        copies=len(rows) - len(kept),
    )


def measured_photos(sample: Dataset) -> dict[str, int]:
    """What a survey says of the photos that are measured on."""
    return {"sampled": len(sample), "sampled_classes": len({*sample.labels} - {""})}


def sample_order(labels: Sequence[str], seed: int) -> NDArray[np.int64]:
    """An order of all photos, the first of which are a sample, however many are taken.

    Each class is divided at random into blocks of about `FEWEST_OF_A_CLASS` photos, the same number in every class. The
    first blocks of all classes come first, then the second ones, and so on; classes are in random order. A sample
    therefore keeps the proportions of the classes, and where it is small, whole classes are left out.
    """
    random, names = np.random.default_rng(seed), np.array(labels, str)
    shuffled = random.permutation(len(names))
    classes, numbers, counts = np.unique(names[shuffled], return_inverse=True, return_counts=True)
    of_classes = counts[classes != ""]
    blocks = max(int(np.median(of_classes)) // FEWEST_OF_A_CLASS, 1) if len(of_classes) else 1
    places = random.random(len(classes))[numbers]
    nameless = classes[numbers] == ""
    places[nameless] = random.random(int(nameless.sum()))
    order = np.lexsort((places, ranks_in_class(numbers) * blocks // counts[numbers]))
    return shuffled[order].astype(np.int64)


def _hashes(dataset: Dataset, rows: NDArray[np.int64], progress: StageProgress) -> list[int | None]:
    """The perceptual hash of each photo; None for one that cannot be decoded."""
    small = Preprocessing(size=64, resize=64)

    def hash_of(row: int) -> int | None:
        try:
            return perceptual_hash(open_rgb(dataset.file(row), preprocessing=small))
        except ImageRejected:
            return None

    found = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done, value in enumerate(pool.map(hash_of, rows.tolist()), 1):
            found.append(value)
            progress(done, len(rows), "photos looked at")
    return found


def is_copy(hashes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether a photo is a copy of an earlier one, by its perceptual hash."""
    groups = UnionFind(len(hashes))
    known = np.flatnonzero(hashes != NO_HASH)
    for one, other in near_pairs(hashes[known].view(np.uint64), MAX_COPY_DISTANCE):
        groups.join_pairs(known[one], known[other])
    return np.asarray(groups.firsts() != np.arange(len(hashes)))
