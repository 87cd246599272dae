"""Further columns of a list of photos, beyond path, id, label and split: cells as read, and typed columns."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, Literal, get_args

from milvus_fghash.errors import ConfigError, DataError, nearest

ColumnType = Literal["text", "int64", "double", "bool"]
TYPES: Final[tuple[ColumnType, ...]] = get_args(ColumnType)
MAX_TEXT: Final = 65_535
"""Longest text of a column in bytes of UTF-8; the limit of Milvus."""
MAX_EXACT_INTEGER: Final = 2**53
"""Doubles represent all integers up to this one exactly."""
OWN_ID: Final = "id"
"""Column of the list's own ids, such as article numbers, and their key in `meta`. The name is reserved."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Column:
    """A typed column without missing values."""

    name: str
    type: ColumnType

    def __str__(self) -> str:
        return f"{self.name}:{self.type}"

    def value(self, cell: object) -> str | int | float | bool:
        """The cell as a value of the column's type.

        A missing cell is "" in a text column. Other types have no neutral value: 0 would match ``price < 10``.

        Raises:
            ValueError: when the cell has no value of the type; says why.
        """
        if is_missing(cell):
            if self.type == "text":
                return ""
            raise ValueError(f"the value is missing, and a column of type {self.type} needs one for each photo")
        read, expected = _READERS[self.type]
        if (value := read(cell)) is None:
            shown = repr(cell) if len(repr(cell)) <= 60 else f"{repr(cell)[:60]}..."
            raise ValueError(f"{shown} is not of type {self.type}; expected {expected}")
        return value


def is_missing(cell: object) -> bool:
    """Whether a cell holds no value: None, an empty text, or NaN, which many programs write instead."""
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def whole_numbers(cells: Sequence[Any]) -> list[Any]:
    """Cells of a column as integers if all present ones are whole numbers; else unchanged.

    >>> whole_numbers([1001.0, None, 1003.0]), whole_numbers([1.0, 2.5])
    ([1001, None, 1003], [1.0, 2.5])
    """
    numbers: list[int | None] = []
    for cell in cells:
        if is_missing(cell):
            numbers.append(None)
        elif _is_exact(cell) and cell == int(cell):
            numbers.append(int(cell))
        else:
            return list(cells)
    return numbers


def _is_exact(cell: object) -> bool:
    return isinstance(cell, Decimal) or (isinstance(cell, float) and -MAX_EXACT_INTEGER <= cell <= MAX_EXACT_INTEGER)


def is_int64(number: int) -> bool:
    """Whether Milvus can store the integer."""
    return -(2**63) <= number < 2**63


def own_id(meta: Mapping[str, Any]) -> str:
    """The list's own id of a row, from its `meta`; "" if it has none.

    >>> own_id({"id": "SKU-1001", "price": 9.5}), own_id({"price": 9.5})
    ('SKU-1001', '')
    """
    found = meta.get(OWN_ID)
    return found if isinstance(found, str) else ""


def types_of(values: Mapping[str, Sequence[Any]]) -> dict[str, ColumnType]:
    """Types of columns of Python values; columns of mixed or other values have none.

    >>> types_of({"price": (9.5, None), "tags": (["a"], None), "stock": (3, 4)})
    {'price': 'double', 'stock': 'int64'}
    """
    names: Mapping[type, ColumnType] = {str: "text", int: "int64", float: "double", bool: "bool"}
    found: dict[str, ColumnType] = {}
    for column, cells in values.items():
        kinds = {type(cell) for cell in cells if cell is not None}
        if len(kinds) == 1 and (kind := kinds.pop()) in names:
            found[column] = names[kind]
    return found


def _text(cell: object) -> str | None:
    if isinstance(cell, bool | int | float):
        return json.dumps(cell)
    return cell if isinstance(cell, str) and len(cell.encode()) <= MAX_TEXT else None


def _int64(cell: object) -> int | None:
    if isinstance(cell, str) and _WHOLE.fullmatch(cell.strip()):
        cell = int(cell)
    return cell if isinstance(cell, int) and not isinstance(cell, bool) and is_int64(cell) else None


def _double(cell: object) -> float | None:
    if isinstance(cell, str) and _DECIMAL.fullmatch(cell.strip()):
        cell = float(cell)
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return None
    try:
        return float(cell) if math.isfinite(cell) else None
    except OverflowError:  # an integer beyond all doubles
        return None


def _bool(cell: object) -> bool | None:
    if isinstance(cell, str):
        return _BOOLS.get(cell.strip().lower())
    return cell if isinstance(cell, bool) else None


_READERS: Final[Mapping[ColumnType, tuple[Callable[[object], str | int | float | bool | None], str]]] = {
    "text": (_text, f"a text of at most {MAX_TEXT:,} bytes"),
    "int64": (_int64, "a whole number from -2^63 to 2^63-1"),
    "double": (_double, "a finite number such as 9.5"),
    "bool": (_bool, "true or false, 1 or 0"),
}


@dataclass(frozen=True)
class ExtraColumns:
    """The further columns of a dataset; empty for a folder of photos.

    Attributes:
        values: name -> (n,) cells as read, None for a missing one.
        types: name -> type of the cells; a column of lists has none.
        lines: (n,) position of each photo in the list.
        unit: what ``lines`` counts, such as "photos.csv, line".
        columns: the typed columns, see `as_columns`.
        typed: name -> (n,) values of the typed columns.
    """

    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    types: Mapping[str, ColumnType] = field(default_factory=dict, compare=False)
    lines: tuple[int, ...] = field(default=(), compare=False)
    unit: str = field(default="the dataset, photo", compare=False)
    columns: tuple[Column, ...] = ()
    typed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def column(self, name: str, type: str = "") -> Column:
        """One of the columns, with the given type or that of its cells.

        Raises:
            ConfigError: when there is no such column or type, or the cells have no type.
        """
        if name not in self.values:
            others = self.values.keys() - {OWN_ID}
            known = nearest(name, others) if others else "It has only path, id, label and split."
            raise ConfigError(f"the list of photos has no column {name!r}. {known}")
        if not type and name not in self.types:
            raise ConfigError(
                f"the cells of the column {name!r} are not texts, numbers or booleans; leave it in `meta`, or give a "
                f"type, as in {name}:text"
            )
        chosen = type or self.types[name]
        for known_type in TYPES:
            if known_type == chosen:
                return Column(name, known_type)
        raise ConfigError(f"the column {name!r} cannot have the type {chosen!r}. {nearest(chosen, TYPES)}")

    def as_columns(self, columns: Sequence[Column]) -> ExtraColumns:
        """A copy in which ``columns``, those of a collection, are typed; the others remain for `meta`.

        Raises:
            DataError: for a missing column, or the first cell that has no value of its type, with its line.
        """
        if tuple(columns) == self.columns:
            return self
        typed: dict[str, tuple[Any, ...]] = {}
        for column in columns:
            if column.name not in self.values:
                raise DataError(
                    f"the list of photos has no column {column.name!r}, which the collection requires; add it to the "
                    "list, or ingest into another collection"
                )
            values: list[str | int | float | bool] = []
            try:
                values.extend(map(column.value, self.values[column.name]))
            except ValueError as error:
                line = self.lines[len(values)] if self.lines else len(values) + 1
                raise DataError(f"{self.unit} {line}, column {column.name!r}: {error}") from None
            typed[column.name] = tuple(values)
        return replace(self, columns=tuple(columns), typed=typed)

    def known(self, row: int) -> dict[str, Any]:
        """The cells of one photo by name, without missing ones."""
        return {name: cells[row] for name, cells in self.values.items() if cells[row] is not None}

    def meta(self, row: int) -> dict[str, Any]:
        """The cells of one photo that are in no typed column."""
        return {name: cell for name, cell in self.known(row).items() if name not in self.typed}

    def take(self, rows: Sequence[int]) -> ExtraColumns:
        """The cells of some photos, in the order of ``rows``."""

        def pick(cells: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(cells[row] for row in rows)

        return replace(
            self,
            values={name: pick(cells) for name, cells in self.values.items()},
            lines=pick(self.lines) if self.lines else (),
            typed={name: pick(cells) for name, cells in self.typed.items()},
        )
