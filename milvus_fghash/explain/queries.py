"""Which photos are the queries, and which are the gallery."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import DataError


@dataclass(frozen=True)
class QueryPhoto:
    """A query.

    Attributes:
        file: the photo.
        name: as it is shown.
        label: its class, or "".
        id: its id in the data set, by which it is left out of its own neighbours; None for a photo of another place.
    """

    file: Path
    name: str
    label: str
    id: str | None


def photos_of_split(dataset: Dataset, split: str, dataset_name: str) -> tuple[Dataset, str]:
    """The photos of a split, and how to name them; all photos if the data set has no splits.

    Raises:
        DataError: when there are splits, but not this one.
    """
    if not any(dataset.splits):
        return dataset, f"all of {dataset_name}"
    return dataset.split(split), f"split {split!r} of {dataset_name}"


def sample_queries(dataset: Dataset, count: int) -> list[QueryPhoto]:
    """``count`` photos (or all, if there are fewer), one of each class before a second of any.

    A hash of class and id decides which: the order of the data set does not matter, and a larger sample contains the
    smaller ones.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(dataset.labels):
        rows_of[label].append(row)
    for rows in rows_of.values():
        rows.sort(key=lambda row: _hash(dataset.ids[row]))
    labels = sorted(rows_of, key=_hash)
    most = max(map(len, rows_of.values()))
    order = [rows_of[label][turn] for turn in range(most) for label in labels if turn < len(rows_of[label])]
    return [
        QueryPhoto(dataset.file(row), dataset.paths[row], dataset.labels[row], dataset.ids[row])
        for row in order[:count]
    ]


def named_queries(dataset: Dataset, files: Sequence[Path]) -> list[QueryPhoto]:
    """Photos by their files. Those of the data set have its class; the class of others is unknown.

    Raises:
        DataError: when a file is named twice.
    """
    rows = {dataset.file(row).resolve(): row for row in range(len(dataset))}
    queries = []
    for file in files:
        row = rows.get(file.resolve())
        known = ("", None) if row is None else (dataset.labels[row], dataset.ids[row])
        queries.append(QueryPhoto(file, str(file), *known))
    if len({file.resolve() for file in files}) < len(files):
        raise DataError("a query photo is named twice; name each once", setting="images")
    return queries


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
