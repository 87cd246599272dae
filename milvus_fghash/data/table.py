"""A CSV or Parquet file that lists photos: path, and optionally id, label, split."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from milvus_fghash.data.listing import Listing
from milvus_fghash.data.places import Source, Url, located
from milvus_fghash.errors import DataError, optional_part

SUFFIXES = (".csv", ".parquet")
COLUMNS = ("path", "id", "label", "split")

_Row = tuple[str, ...]


def read(file: Path, root: Path | Url | None = None) -> Listing:
    """The rows of ``file`` in their order; paths are relative to its folder, or to ``root``, or are URLs.

    Without a column ``id`` the paths are the ids; without ``label`` or ``split`` they are "". Other columns are
    ignored. Photos need not be there: a missing one is refused when it is opened.

    Raises:
        DataError: when the file cannot be read, has no column ``path``, or a row is malformed; with its line.
        MissingExtra: for Parquet without pyarrow.
    """
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{file} is no table this project reads; expected a file ending in {' or '.join(SUFFIXES)}")
    if not file.is_file():
        raise DataError(f"there is no file {file}")
    rows = _read_csv(file) if suffix == ".csv" else _read_parquet(file)
    root = root or file.parent
    places: list[Source] = []
    ids, paths, labels, splits = [], [], [], []
    for (path, key, label, split), where in rows:
        path, place = located(path, root, where)
        paths.append(path)
        places.append(place)
        ids.append(key or paths[-1])
        labels.append(label)
        splits.append(split)
    elsewhere = tuple(places) if any(not isinstance(place, Path) for place in places) else ()
    url = root if isinstance(root, Url) else None
    return Listing(file.parent, tuple(ids), tuple(paths), tuple(labels), tuple(splits), places=elsewhere, url=url)


def _positions(file: Path, header: Sequence[str]) -> list[int | None]:
    """Where each of COLUMNS stands in the header."""
    if "path" not in header:
        raise DataError(f"{file} has no column 'path'; found the columns {', '.join(map(repr, header)) or 'none'}")
    for name in COLUMNS:
        if header.count(name) > 1:
            raise DataError(f"{file} has the column {name!r} twice")
    return [header.index(name) if name in header else None for name in COLUMNS]


def _read_csv(file: Path) -> Iterator[tuple[_Row, str]]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(reader, [])]
            positions = _positions(file, header)
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(f"{where}: expected {len(header)} fields, got {len(row)}")
                yield tuple("" if place is None else row[place] for place in positions), where
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{file} is no UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from None


def _read_parquet(file: Path) -> Iterator[tuple[_Row, str]]:
    with optional_part("parquet"):
        from pyarrow import lib, parquet
    try:
        with parquet.ParquetFile(file) as content:  # type: ignore[no-untyped-call]
            header = content.schema_arrow.names
            positions = _positions(file, header)
            wanted = [header[place] for place in positions if place is not None]
            table = content.read(columns=wanted)
    except (lib.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from None
    columns = [table[name].to_pylist() if name in wanted else [""] * len(table) for name in COLUMNS]
    for number, row in enumerate(zip(*columns, strict=True), start=1):
        yield tuple("" if value is None else str(value) for value in row), f"{file}, row {number}"
