"""What is known of photos elsewhere without reading them, asked for before it is needed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.sources.location import PhotoLocation


def versions_in_parts(dataset: Dataset, size: int) -> Iterator[tuple[range, list[str]]]:
    """Rows of a listing, ``size`` at a time, and their versions; "" for files here and for what nobody tells.

    Answers take their time: those for the next part are awaited while the caller is at this one.
    """
    parts = [range(start, min(start + size, len(dataset))) for start in range(0, len(dataset), size)]
    coming = _ask(dataset, parts[0])
    for rows, following in itertools.zip_longest(parts, parts[1:]):
        versions = coming()
        if following:
            coming = _ask(dataset, following)
        yield rows, versions


def _ask(dataset: Dataset, rows: range) -> Callable[[], list[str]]:
    places = [dataset.source(row) for row in rows] if dataset.sources else []
    versions = ["" if isinstance(place, Path) else place.revision for place in places] or [""] * len(rows)
    remote = {at: place for at, place in enumerate(places) if isinstance(place, PhotoLocation) and place.is_remote}
    unknown = {at: place for at, place in remote.items() if not place.revision and place.size is None}
    if not unknown:
        return lambda: versions
    from milvus_fghash.datasets.sources.fetch import request_revisions

    coming = request_revisions(list(unknown.values()))

    def wait() -> list[str]:
        for at, version in zip(unknown, coming(), strict=True):
            versions[at] = version
        return versions

    return wait
