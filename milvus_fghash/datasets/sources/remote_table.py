"""A CSV or Parquet list of photos behind a URL -> a listing."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.sources.location import PhotoLocation, Url
from milvus_fghash.datasets.sources.open import read_source
from milvus_fghash.datasets.tables import table
from milvus_fghash.errors import DataError

LARGEST_LIST: Final = 4 << 30
"""Bytes of a list behind a URL."""
SECONDS: Final = 3600.0
"""For it to come."""


def read(url: Url) -> Dataset:
    """The rows of a CSV or Parquet file behind a URL, as `table.read` reads one here.

    Raises:
        DataError, MissingExtra: as `table.read`, and when it cannot be fetched.
    """
    raw = read_source(PhotoLocation(url.full, str(url)), LARGEST_LIST, SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"list{url.suffix}"
        file.write_bytes(raw)
        try:
            dataset = table.read(file, url.parent)
        except DataError as error:
            raise DataError(str(error).replace(str(file), str(url))) from None
    return replace(
        dataset,
        given=url,
        cells=replace(dataset.cells, unit=dataset.cells.unit.replace(str(file), str(url))),
        survey=replace(dataset.survey, classes=dataset.survey.classes.replace(str(file), str(url))),
    )
