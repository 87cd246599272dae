"""What a list says of its photos beyond path, id, label and split: cells as they were read, and columns of one type."""

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
"""Longest text of a column in bytes of UTF-8: what Milvus takes."""
MAX_EXACT_INTEGER: Final = 2**53
"""Beyond it, doubles leave out whole numbers, and what is written may stand for another one."""
OWN_ID: Final = "id"
"""Column of the ids that a list gives its photos, such as article numbers, and their key in `meta`. No other cells can
have that name."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Column:
    """A column whose values all have one type, none missing."""

    name: str
    type: ColumnType

    def __str__(self) -> str:
        return f"{self.name}:{self.type}"

    def value(self, cell: object) -> str | int | float | bool:
        """The cell as a value of the column's type.

        A cell that `is_missing` is "" in a text column, as in the labels of photos. Other types have no value that
        means nothing: 0 would be found by ``price < 10``.

        Raises:
            ValueError: says why there is none.
        """
        if is_missing(cell):
            if self.type == "text":
                return ""
            raise ValueError(f"there is no value, and a column of type {self.type} needs one for each photo")
        read, expected = _READERS[self.type]
        if (value := read(cell)) is None:
            shown = repr(cell) if len(repr(cell)) <= 60 else f"{repr(cell)[:60]}..."
            raise ValueError(f"{shown} is no {self.type}; expected {expected}")
        return value


def is_missing(cell: object) -> bool:
    """Whether a cell holds no value: None, an empty text, or NaN, by which many programs write that."""
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def whole_numbers(cells: Sequence[Any]) -> list[Any]:
    """ExtraColumns of a column as whole numbers, where all that are not missing are whole; else as they are.

    >>> whole_numbers([1001.0, None, 1003.0]), whole_numbers([1.0, 2.5])
    ([1001, None, 1003], [1.0, 2.5])
    """
    whole: list[int | None] = []
    for cell in cells:
        if is_missing(cell):
            whole.append(None)
        elif _is_exact(cell) and cell == int(cell):
            whole.append(int(cell))
        else:
            return list(cells)
    return whole


def _is_exact(cell: object) -> bool:
    return isinstance(cell, Decimal) or (isinstance(cell, float) and -MAX_EXACT_INTEGER <= cell <= MAX_EXACT_INTEGER)


def is_int64(number: int) -> bool:
    """Whether Milvus can keep a whole number."""
    return -(2**63) <= number < 2**63


def own_id(meta: Mapping[str, Any]) -> str:
    """The own id of a row, from its `meta`; "" where there is none.

    >>> own_id({"id": "SKU-1001", "price": 9.5}), own_id({"price": 9.5})
    ('SKU-1001', '')
    """
    found = meta.get(OWN_ID)
    return found if isinstance(found, str) else ""


def types_of(values: Mapping[str, Sequence[Any]]) -> dict[str, ColumnType]:
    """The types of Python values by column; of a column of mixed or other values, none.

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
    except OverflowError:  # a whole number beyond all doubles
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
    """The further columns of a listing; without any, those of a folder.

    Attributes:
        values: name -> (n,) cells as they were read, None where one is missing.
        types: name -> the type its cells have of themselves; a column of lists has none.
        lines: (n,) where each photo stands in the list.
        unit: what ``lines`` counts, such as "photos.csv, line".
        columns: those that were asked for, see `as_columns`.
        typed: name -> (n,) their values.
    """

    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    types: Mapping[str, ColumnType] = field(default_factory=dict, compare=False)
    lines: tuple[int, ...] = field(default=(), compare=False)
    unit: str = field(default="the listing, photo", compare=False)
    columns: tuple[Column, ...] = ()
    typed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def column(self, name: str, type: str = "") -> Column:
        """One of the columns, as a type or as the one its cells have.

        Raises:
            ConfigError: when there is no such column or type, or its cells have none.
        """
        if name not in self.values:
            others = self.values.keys() - {OWN_ID}
            known = nearest(name, others) if others else "There is none beyond path, id, label and split."
            raise ConfigError(f"the list of photos has no column {name!r}. {known}")
        if not type and name not in self.types:
            raise ConfigError(
                f"the cells of the column {name!r} are no texts, numbers or truth values; leave it to `meta`, or give "
                f"a type, as in {name}:text"
            )
        chosen = type or self.types[name]
        for known_type in TYPES:
            if known_type == chosen:
                return Column(name, known_type)
        raise ConfigError(f"the column {name!r} cannot have the type {chosen!r}. {nearest(chosen, TYPES)}")

    def as_columns(self, columns: Sequence[Column]) -> ExtraColumns:
        """With ``columns``, those of a collection, as values of their types; the others stay for `meta`.

        Raises:
            DataError: when a column is not there, or for the first cell that is no value of its type, with its line.
        """
        if tuple(columns) == self.columns:
            return self
        typed: dict[str, tuple[Any, ...]] = {}
        for column in columns:
            if column.name not in self.values:
                raise DataError(
                    f"the list of photos has no column {column.name!r}, which each photo of the collection needs; add "
                    "it to the list, or ingest into another collection"
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
        """What was read of one photo: its cells by name, without missing ones."""
        return {name: cells[row] for name, cells in self.values.items() if cells[row] is not None}

    def meta(self, row: int) -> dict[str, Any]:
        """What is `known` of one photo and stands in no typed column."""
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
