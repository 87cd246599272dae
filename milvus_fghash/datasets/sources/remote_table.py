"""A CSV or Parquet list of photos behind a URL -> a listing."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.sources.location import PhotoLocation, Url
from milvus_fghash.datasets.sources.reader import read_source
from milvus_fghash.datasets.tables import table
from milvus_fghash.errors import DataError

MAX_LIST_BYTES: Final = 4 << 30
"""Bytes of a list behind a URL."""
LIST_TIMEOUT_SECONDS: Final = 3600.0
"""For it to come."""


def read(url: Url) -> Dataset:
    """The rows of a CSV or Parquet file behind a URL, as `table.read` reads one here.

    Raises:
        DataError, MissingExtra: as `table.read`, and when it cannot be fetched.
    """
    raw = read_source(PhotoLocation(url.full, str(url)), MAX_LIST_BYTES, LIST_TIMEOUT_SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"list{url.suffix}"
        file.write_bytes(raw)
        try:
            dataset = table.read(file, url.parent)
        except DataError as error:
            raise DataError(str(error).replace(str(file), str(url))) from None
    return replace(
        dataset,
        location=url,
        extra_columns=replace(dataset.extra_columns, unit=dataset.extra_columns.unit.replace(str(file), str(url))),
        read_report=replace(dataset.read_report, classes=dataset.read_report.classes.replace(str(file), str(url))),
    )
