"""Links among the photos: one that leads out of their folder is not taken, unless it was allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.paths import FolderBoundary
from milvus_fghash.datasets.sources.location import InvalidSource, Source
from milvus_fghash.ingest.changes import OUTSIDE


def places(dataset: Dataset, follow_links: bool) -> Callable[[int], Source]:
    """Row -> where its photo is, barred where a link leads out of the folder."""
    below = FolderBoundary(dataset.root)

    def place(row: int) -> Source:
        found, path = dataset.source(row), dataset.paths[row]
        if follow_links or not isinstance(found, Path) or path in below:
            return found
        message = f"{path} is a link that leads out of the folder of the photos; following links takes it in"
        return InvalidSource(path, "", OUTSIDE, message)

    return place
