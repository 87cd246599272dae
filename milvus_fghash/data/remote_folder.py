"""All photos below a URL, listed once; what the listing says of versions saves a question for each."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from milvus_fghash.data.fetching import filesystem, told, version_of
from milvus_fghash.data.found import Photos
from milvus_fghash.data.listing import Listing
from milvus_fghash.data.places import Place, Url, name_of
from milvus_fghash.errors import DataError
from milvus_fghash.image_formats import SUFFIXES


def read(root: Url) -> Listing:
    """Photos below ``root`` by their suffix, as the layout `folder` reads them: sorted, hidden ones left out.

    Of HTTP, a page that links what lies below it is needed.

    Raises:
        DataError: when it cannot be listed, or holds no photos.
        MissingExtra: without the packages for the URL.
    """
    photos = Photos(root)
    for path, facts in _below(root):
        if posixpath.splitext(path)[1].lower() in SUFFIXES:
            where = (root / path).full
            photos.add(path, Place(where, name_of(where), version_of(facts)))
    return photos.listing()


def remote_archives(root: Url, suffixes: tuple[str, ...]) -> list[tuple[str, Url]]:
    """Relative path and URL of what ends like an archive; raises as `read`."""
    return [(path, root / path) for path, _ in sorted(_below(root)) if path.lower().endswith(suffixes)]


def _below(root: Url) -> Iterator[tuple[str, dict[str, Any]]]:
    is_web = root.protocol in {"http", "https"}
    files, base = filesystem(root.full.rstrip("/") + "/" * is_web)
    try:
        found = files.find(base, detail=True)
    except Exception as error:  # of fsspec's file systems, which have trees of their own
        raise DataError(f"cannot list {root}: {told(str(root), error)}") from None
    start = base.rstrip("/") + "/"
    for name, facts in found.items():
        path = str(name).removeprefix(start)
        path = unquote(path) if is_web else path
        hidden = any(part.startswith(".") for part in path.split("/"))
        if str(name).startswith(start) and path and not hidden:
            yield path, facts
    files.invalidate_cache()
