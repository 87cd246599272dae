"""Search results as one HTML page with the photos inside; see `core.html`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.html import Picture, preview, render
from milvus_fghash.core.labels import share_label
from milvus_fghash.datasets.tables.columns import OWN_ID
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.search.search import Hit, SearchResult, photo_file

PREVIEW_SIDE: Final = 256
"""Longest side of a preview in pixels: sharp on screens of double density."""
MAX_VALUE_LENGTH: Final = 80
"""Characters shown of a value of `meta` or of a column."""


@dataclass(frozen=True)
class Query:
    """A query with its hits.

    Attributes:
        name: what was searched by: a path, an id or a code.
        result: its hits.
        photo: the query's own photo; None where there is none.
        label: class of the query; hits are then marked right or wrong. "" where it is not known.
    """

    name: str
    result: SearchResult
    photo: Path | bytes | None = None
    label: str = ""


@dataclass(frozen=True)
class _ShownHit:
    """A hit as the template shows it."""

    hit: Hit
    picture: Picture
    right: bool | None
    facts: Sequence[str]


@dataclass(frozen=True)
class _ShownQuery:
    """A query as the template shows it."""

    query: Query
    picture: Picture
    hits: Sequence[_ShownHit]

    @property
    def n_right(self) -> int:
        return sum(shown.right is True for shown in self.hits)


def write_gallery(
    path: Path,
    queries: Sequence[Query],
    photos: Path,
    *,
    collection: HashCollection,
    filter: str = "",
    title: str = "Search results",
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        queries: one section each.
        photos: folder that the paths of the hits are relative to. A hit without a photo there gets an empty tile.
        collection: the collection that was searched.
        filter: Milvus expression that the hits match.
        title: heading of the page.

    Raises:
        DataError: when the file cannot be written.
    """
    bits = collection.bits
    facts = [("Collection", collection.name), ("Method", collection.metadata.method), ("Code length", f"{bits} bits")]
    if filter:
        facts.append(("Filter", filter))
    page = render(
        "search/gallery.html", title=title, facts=facts, bits=bits, queries=[_shown(query, photos) for query in queries]
    )
    write_atomic(path, page)


def missing_photos(folder: Path, paths: Iterable[str]) -> str:
    """A sentence on photos of a page that are not in the folder, which may be the wrong one; "" when all are there."""
    files = [photo_file(folder, path) for path in dict.fromkeys(paths)]
    missing = sum(file is None or not os.path.exists(file) for file in files)
    if not missing:
        return ""
    if missing == len(files):
        return f"none of the {missing:,} photos of the page is in {folder}; expected the folder that was ingested"
    return f"{missing:,} of the {len(files):,} photos of the page are not in {folder}; they are shown as empty tiles"


def _shown(query: Query, photos: Path) -> _ShownQuery:
    hits = []
    for hit in query.result:
        right = share_label(hit.label, query.label) if query.label and hit.label else None
        picture = preview(photo_file(photos, hit.path), hit.path, PREVIEW_SIDE)
        hits.append(_ShownHit(hit, picture, right, list(_facts(hit))))
    return _ShownQuery(query, preview(query.photo, query.name, PREVIEW_SIDE), hits)


def _facts(hit: Hit) -> Iterator[str]:
    """Own id (which is in `meta` too), columns and `meta` as "name: value"; long values are cut."""
    values: Mapping[str, Any] = {**({OWN_ID: hit.own_id} if hit.own_id else {}), **hit.columns, **hit.meta}
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"{name}: {text if len(text) <= MAX_VALUE_LENGTH else text[:MAX_VALUE_LENGTH] + '...'}"
