"""A CSV or Parquet list of photos: path, optionally id, label or labels, split, and further columns; local or a URL."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from milvus_fghash.core.labels import SEPARATOR, join_labels
from milvus_fghash.core.text_file import open_text
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.read_report import ReadReport
from milvus_fghash.datasets.sources.location import PhotoLocation, Source, Url, resolve_source
from milvus_fghash.datasets.sources.reader import read_source
from milvus_fghash.datasets.tables.columns import OWN_ID, ColumnType, ExtraColumns, is_missing, whole_numbers
from milvus_fghash.errors import DataError, optional_extra

SUFFIXES = (".csv", ".parquet")
COLUMNS = ("path", OWN_ID, "label", "split")
LABELS: Final = "labels"
"""Further column that gives the labels of photos with several, where the list has no column ``label``."""
MAX_LIST_BYTES: Final = 4 << 30
"""Largest list behind a URL."""
LIST_TIMEOUT_SECONDS: Final = 3600.0
"""Time for it to arrive."""


@dataclass(frozen=True)
class _Table:
    """The content of a file.

    Attributes:
        rows: position of each row, and its cells in the order of ``header``.
        unit: what the positions count, such as "line".
        types: types of the columns that have one.
    """

    header: Sequence[str]
    rows: Iterable[tuple[int, Sequence[Any]]]
    unit: str
    types: dict[str, ColumnType]


def read(file: Path, root: Path | Url | None = None) -> Dataset:
    """The rows of ``file`` in file order; paths are relative to its folder, or to ``root``, or are URLs.

    Where there is no ``id``, the path is the id; labels and splits default to "". A column ``labels`` in place of
    ``label`` gives label sets: texts such as ``sky|water``, or lists in Parquet. Other columns, and ``id`` as text,
    become `Dataset.extra_columns`: texts from CSV, values from Parquet, whose times become texts and decimals doubles.
    Whole numbers of ``id``, ``label`` or ``split`` in Parquet lose their ".0": pandas writes integers with gaps as
    doubles. An empty text, null and NaN are missing cells. Columns without a name, and Parquet columns that JSON cannot
    hold, such as bytes, are skipped. A missing photo is rejected when it is opened.

    Raises:
        DataError: when the file cannot be read, has no column ``path``, or a row is malformed; with its line.
        MissingExtra: for Parquet without pyarrow.
    """
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{file} is not a list of photos; expected a file ending in {' or '.join(SUFFIXES)}")
    if not file.is_file():
        raise DataError(f"there is no file {file}")
    table = _read_csv(file) if suffix == ".csv" else _read_parquet(file)
    root = root or file.parent
    positions = {name: table.header.index(name) for name in table.header if name}
    class_column = LABELS if LABELS in positions and "label" not in positions else "label"
    extra = {name: at for name, at in positions.items() if name == OWN_ID or name not in COLUMNS}
    ids, paths, lines = [], [], []
    sources: list[Source] = []
    cells: list[list[Any]] = [[] for _ in extra]
    labels: list[str] = []
    splits: list[str] = []
    for line, row in table.rows:
        if not (text := _text(row[positions["path"]])):
            raise DataError(f"{file}, {table.unit} {line} has no path")
        path, source = resolve_source(text, root, f"{file}, {table.unit} {line}")
        paths.append(path)
        sources.append(source)
        own_id = _text(row[positions[OWN_ID]]) if OWN_ID in positions else ""
        ids.append(own_id or path)
        label = row[positions[class_column]] if class_column in positions else ""
        labels.append(_label_set(label, f"{file}, {table.unit} {line}") if class_column == LABELS else _text(label))
        splits.append(_text(row[positions["split"]]) if "split" in positions else "")
        for column, (name, at) in zip(cells, extra.items(), strict=True):
            cell = own_id if name == OWN_ID else row[at]
            column.append(None if is_missing(cell) else cell)
        lines.append(line)
    class_source = (
        f"from the column {class_column!r}"
        if class_column in positions
        else (f"{file} has no column 'label', only {', '.join(map(repr, positions))}")
    )
    return Dataset(
        file.parent,
        tuple(ids),
        tuple(paths),
        tuple(labels),
        tuple(splits),
        sources=tuple(sources) if any(not isinstance(source, Path) for source in sources) else (),
        url=root if isinstance(root, Url) else None,
        extra_columns=ExtraColumns(
            dict(zip(extra, map(tuple, cells), strict=True)),
            {**table.types, OWN_ID: "text"},
            tuple(lines),
            f"{file}, {table.unit}",
        ),
        read_report=ReadReport(class_source),
        location=file,
    )


def read_url(url: Url) -> Dataset:
    """The rows of a CSV or Parquet file behind a URL, as `read` returns those of a local one.

    Raises:
        DataError, MissingExtra: as `read`, and when the file cannot be fetched.
    """
    raw = read_source(PhotoLocation(url.full, str(url)), MAX_LIST_BYTES, LIST_TIMEOUT_SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"list{url.suffix}"
        file.write_bytes(raw)

        def with_url(text: str) -> str:
            return text.replace(str(file), str(url))

        try:
            dataset = read(file, url.parent)
        except DataError as error:
            raise DataError(with_url(str(error))) from None
    columns, report = dataset.extra_columns, dataset.read_report
    return replace(
        dataset,
        location=url,
        extra_columns=replace(columns, unit=with_url(columns.unit)),
        read_report=replace(report, classes=with_url(report.classes)),
    )


def _text(cell: object) -> str:
    return "" if is_missing(cell) else str(cell)


def _label_set(cell: object, where: str) -> str:
    names = cell if isinstance(cell, list) else _text(cell).split(SEPARATOR)
    try:
        return join_labels(map(_text, names))
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _check_header(file: Path, header: Sequence[str]) -> None:
    if "path" not in header:
        raise DataError(f"{file} has no column 'path'; found the columns {', '.join(map(repr, header)) or 'none'}")
    for name in header:
        if name and header.count(name) > 1:
            raise DataError(f"{file} has the column {name!r} twice")


def _read_csv(file: Path) -> _Table:
    rows = _csv_rows(file)
    _, header = next(rows)
    names = [name.strip() for name in header]
    _check_header(file, names)
    return _Table(names, rows, "line", dict.fromkeys(names, "text"))


def _csv_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The header and every row below it, each as long as the header."""
    try:
        with open_text(file, "the list", DataError, newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            yield reader.line_num, header
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(f"{file}, line {reader.line_num}: expected {len(header)} fields, got {len(row)}")
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}") from None


def _read_parquet(file: Path) -> _Table:
    with optional_extra("parquet"):
        import pyarrow  # noqa: F401 - the module below would also load without it once it was imported

        from milvus_fghash.datasets.tables import parquet
    header = parquet.header(file)
    _check_header(file, header)
    names, columns, types = parquet.columns(file, as_texts=COLUMNS)
    columns = [whole_numbers(cells) if name in COLUMNS else cells for name, cells in zip(names, columns, strict=True)]
    return _Table(names, enumerate(zip(*columns, strict=True), start=1), "row", types)
