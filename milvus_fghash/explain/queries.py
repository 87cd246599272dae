"""Which photos ask, and which are asked."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import DataError


@dataclass(frozen=True)
class Query:
    """A photo that asks.

    Attributes:
        file: where it lies.
        name: as it is shown.
        label: its class, or "".
        id: its id in the listing; None for a photo that is not in it. It does not find itself.
    """

    file: Path
    name: str
    label: str
    id: str | None


def part_of(dataset: Dataset, split: str, dataset_name: str) -> tuple[Dataset, str]:
    """The photos of a split, and what they are called; a listing without any split is taken whole.

    Raises:
        DataError: when there are splits, but not this one.
    """
    if not any(dataset.splits):
        return dataset, f"all of {dataset_name}"
    return dataset.split(split), f"the split {split!r} of {dataset_name}"


def drawn(dataset: Dataset, count: int) -> list[Query]:
    """``count`` photos, one of each class before a second of any; all there are if there are fewer.

    Which ones, a hash of class and id decides: the order of the listing does not matter, and more photos keep those
    that fewer gave.
    """
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(dataset.labels):
        rows_of[label].append(row)
    for rows in rows_of.values():
        rows.sort(key=lambda row: _lot(dataset.ids[row]))
    labels = sorted(rows_of, key=_lot)
    most = max(map(len, rows_of.values()))
    turns = [rows_of[label][turn] for turn in range(most) for label in labels if turn < len(rows_of[label])]
    return [
        Query(dataset.file(row), dataset.paths[row], dataset.labels[row], dataset.ids[row]) for row in turns[:count]
    ]


def given(dataset: Dataset, files: Sequence[Path]) -> list[Query]:
    """Photos by their files. Those of the listing have its class; of others none is known.

    Raises:
        DataError: when a file is given twice.
    """
    rows = {dataset.file(row).resolve(): row for row in range(len(dataset))}
    queries = []
    for file in files:
        row = rows.get(file.resolve())
        known = ("", None) if row is None else (dataset.labels[row], dataset.ids[row])
        queries.append(Query(file, str(file), *known))
    if len({file.resolve() for file in files}) < len(files):
        raise DataError("a photo is given twice; name each once")
    return queries


def _lot(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
