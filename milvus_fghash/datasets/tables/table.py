"""A CSV or Parquet file that lists photos: path, optionally id, label, split, and whatever else is known of them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from milvus_fghash.core.text_file import open_text
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.read_report import ReadReport
from milvus_fghash.datasets.sources.location import Source, Url, located
from milvus_fghash.datasets.tables.columns import OWN_ID, ColumnType, ExtraColumns, is_missing, whole_numbers
from milvus_fghash.errors import DataError, optional_extra

SUFFIXES = (".csv", ".parquet")
COLUMNS = ("path", OWN_ID, "label", "split")


@dataclass(frozen=True)
class _Table:
    """What stands in a file, before it is understood.

    Attributes:
        rows: where each stands, and its cells in the order of ``header``.
        unit: what is counted by where they stand, such as "line".
        types: of the columns whose cells have one.
    """

    header: Sequence[str]
    rows: Iterable[tuple[int, Sequence[Any]]]
    unit: str
    types: dict[str, ColumnType]


def read(file: Path, root: Path | Url | None = None) -> Dataset:
    """The rows of ``file`` in their order; paths are relative to its folder, or to ``root``, or are URLs.

    Without a column ``id``, or where its cell is missing, the path is the id; without ``label`` or ``split`` they are
    "". Other columns become the listing's `cells`: texts of a CSV file, values of a Parquet file, whose times become
    texts and decimals doubles. The cells of ``id`` are among them, as texts. Where all numbers of ``id``, ``label`` or
    ``split`` in a Parquet file are whole, so are their texts: pandas writes whole numbers with a gap as doubles, 1001.0
    for 1001. An empty text, null and NaN are a missing cell. Columns without a name, and those of Parquet that JSON
    cannot hold, such as bytes, are passed over. Photos need not be there: a missing one is rejected when it is opened.

    Raises:
        DataError: when the file cannot be read, has no column ``path``, or a row is malformed; with its line.
        MissingExtra: for Parquet without pyarrow.
    """
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{file} is no table this project reads; expected a file ending in {' or '.join(SUFFIXES)}")
    if not file.is_file():
        raise DataError(f"there is no file {file}")
    table = _read_csv(file) if suffix == ".csv" else _read_parquet(file)
    root = root or file.parent
    positions = {name: table.header.index(name) for name in table.header if name}
    more = {name: at for name, at in positions.items() if name == OWN_ID or name not in COLUMNS}
    ids, paths, lines = [], [], []
    places: list[Source] = []
    cells: list[list[Any]] = [[] for _ in more]
    told: dict[str, list[str]] = {"label": [], "split": []}
    for line, row in table.rows:
        if not (written := _text(row[positions["path"]])):
            raise DataError(f"{file}, {table.unit} {line} has no path")
        path, place = located(written, root, f"{file}, {table.unit} {line}")
        paths.append(path)
        places.append(place)
        own_id = _text(row[positions[OWN_ID]]) if OWN_ID in positions else ""
        ids.append(own_id or path)
        for name, texts in told.items():
            texts.append(_text(row[positions[name]]) if name in positions else "")
        for column, (name, at) in zip(cells, more.items(), strict=True):
            cell = own_id if name == OWN_ID else row[at]
            column.append(None if is_missing(cell) else cell)
        lines.append(line)
    says = (
        "from the column 'label'"
        if "label" in positions
        else (f"{file} has no column 'label', only {', '.join(map(repr, positions))}")
    )
    return Dataset(
        file.parent,
        tuple(ids),
        tuple(paths),
        tuple(told["label"]),
        tuple(told["split"]),
        sources=tuple(places) if any(not isinstance(place, Path) for place in places) else (),
        url=root if isinstance(root, Url) else None,
        extra_columns=ExtraColumns(
            dict(zip(more, map(tuple, cells), strict=True)),
            {**table.types, OWN_ID: "text"},
            tuple(lines),
            f"{file}, {table.unit}",
        ),
        read_report=ReadReport(says),
        location=file,
    )


def _text(cell: object) -> str:
    return "" if is_missing(cell) else str(cell)


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
        import pyarrow  # noqa: F401 - once it was imported, the next line works without it

        from milvus_fghash.datasets.tables import parquet
    header = parquet.header(file)
    _check_header(file, header)
    names, columns, types = parquet.columns(file, as_texts=COLUMNS)
    columns = [whole_numbers(cells) if name in COLUMNS else cells for name, cells in zip(names, columns, strict=True)]
    return _Table(names, enumerate(zip(*columns, strict=True), start=1), "row", types)
