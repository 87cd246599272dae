"""Links among the photos: one that leads out of their folder is not taken, unless it was allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from milvus_fghash.data.listing import Listing
from milvus_fghash.data.paths import Below
from milvus_fghash.data.places import Barred, Source
from milvus_fghash.serving.changes import OUTSIDE


def places(listing: Listing, follow_links: bool) -> Callable[[int], Source]:
    """Row -> where its photo is, barred where a link leads out of the folder."""
    below = Below(listing.root)

    def place(row: int) -> Source:
        found, path = listing.place(row), listing.paths[row]
        if follow_links or not isinstance(found, Path) or path in below:
            return found
        message = f"{path} is a link that leads out of the folder of the photos; following links takes it in"
        return Barred(path, "", OUTSIDE, message)

    return place
