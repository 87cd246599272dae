"""A CSV or Parquet list of photos behind a URL -> a listing."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from milvus_fghash.data import table
from milvus_fghash.data.listing import Listing
from milvus_fghash.data.places import Place, Url
from milvus_fghash.errors import DataError

LARGEST_LIST: Final = 4 << 30
"""Bytes of a list behind a URL."""
SECONDS: Final = 3600.0
"""For it to come."""


def read(url: Url) -> Listing:
    """The rows of a CSV or Parquet file behind a URL, as `table.read` reads one here.

    Raises:
        DataError, MissingExtra: as `table.read`, and when it cannot be fetched.
    """
    raw = Place(url.full, str(url)).read(LARGEST_LIST, SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"list{url.suffix}"
        file.write_bytes(raw)
        try:
            listing = table.read(file, url.parent)
        except DataError as error:
            raise DataError(str(error).replace(str(file), str(url))) from None
    return replace(
        listing,
        given=url,
        cells=replace(listing.cells, unit=listing.cells.unit.replace(str(file), str(url))),
        survey=replace(listing.survey, classes=listing.survey.classes.replace(str(file), str(url))),
    )
