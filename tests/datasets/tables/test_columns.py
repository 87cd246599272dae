"""Cells of a list as values of one type."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.datasets.tables.columns import Column, ColumnType, ExtraColumns
from milvus_fghash.errors import ConfigError, DataError

CELLS = ExtraColumns(
    {"price": ("1.5", None, "3"), "brand": ("acme", None, "Ärger"), "stock": (3, 4, 5), "tags": (["a"], None, ["b"])},
    {"price": "text", "brand": "text", "stock": "int64"},
    (2, 3, 5),
    "catalog.csv, line",
)


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        ("text", "acme", "acme"),
        ("text", None, ""),
        ("text", 3, "3"),
        ("text", 0.5, "0.5"),
        ("text", True, "true"),
        ("text", math.nan, ""),
        ("text", "é" * 32_767, "é" * 32_767),
        ("int64", "7", 7),
        ("int64", " -7 ", -7),
        ("int64", "+007", 7),
        ("int64", "9223372036854775807", 2**63 - 1),
        ("int64", "-9223372036854775808", -(2**63)),
        ("int64", 7, 7),
        ("double", "1e3", 1000.0),
        ("double", ".5", 0.5),
        ("double", "-5.", -5.0),
        ("double", 3, 3.0),
        ("bool", "TRUE", True),
        ("bool", "0", False),
        ("bool", False, False),
    ],
)
def test_values_worked_by_hand(kind: ColumnType, cell: object, value: object) -> None:
    got = Column("x", kind).value(cell)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "cell", "message"),
    [
        ("int64", "abc", "'abc' is not of type int64; expected a whole number"),
        ("int64", "9223372036854775808", "'9223372036854775808' is not of type int64"),
        ("int64", -(2**63) - 1, "is not of type int64"),
        ("int64", "9" * 5000, "... is not of type int64"),
        ("int64", "3.0", "is not of type int64"),
        ("int64", 3.0, "is not of type int64"),
        ("int64", True, "is not of type int64"),
        ("int64", "1_000", "is not of type int64"),
        ("int64", "٣", "is not of type int64"),
        ("int64", None, "the value is missing, and a column of type int64 needs one"),
        ("double", "nan", "'nan' is not of type double; expected a finite number"),
        ("double", "1e999", "is not of type double"),
        ("double", "1,5", "is not of type double"),
        ("double", math.inf, "is not of type double"),
        ("double", False, "is not of type double"),
        ("double", None, "the value is missing"),
        ("double", math.nan, "the value is missing"),
        ("bool", "yes", "'yes' is not of type bool; expected true or false, 1 or 0"),
        ("bool", 1, "is not of type bool"),
        ("bool", None, "the value is missing"),
        ("text", "é" * 32_768, "expected a text of at most 65,535 bytes"),
        ("text", ["a"], "is not of type text"),
    ],
)
def test_what_is_no_value_is_said(kind: ColumnType, cell: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        Column("x", kind).value(cell)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_what_is_written_out_is_read_as_it_was(whole: int, number: float, truth: bool) -> None:
    assert Column("x", "int64").value(str(whole)) == whole
    read = Column("x", "double").value(repr(number))
    assert (read, math.copysign(1, float(read))) == (number, math.copysign(1, number))
    assert Column("x", "bool").value(str(truth)) is truth


@given(st.integers())
def test_only_64_bits_are_an_int64(whole: int) -> None:
    fits = -(2**63) <= whole < 2**63
    for cell in (whole, str(whole)):
        if fits:
            assert Column("x", "int64").value(cell) == whole
        else:
            with pytest.raises(ValueError, match="not of type int64"):
                Column("x", "int64").value(cell)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=5))
def test_texts_of_csv_stay_as_they_are(texts: list[str]) -> None:
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL).writerow(texts)
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""), strict=True)
    assert [Column("x", "text").value(cell) for cell in row] == texts


def test_columns_are_typed_and_the_rest_stays_for_meta() -> None:
    taken = CELLS.take([2, 0]).as_columns([Column("price", "double"), Column("stock", "int64")])
    assert taken.typed == {"price": (3.0, 1.5), "stock": (5, 3)}
    assert [taken.meta(row) for row in (0, 1)] == [{"brand": "Ärger", "tags": ["b"]}, {"brand": "acme", "tags": ["a"]}]
    assert taken.known(0) == {"price": "3", "brand": "Ärger", "stock": 5, "tags": ["b"]}
    assert CELLS.known(1) == {"stock": 4}
    assert taken.take([1]).typed == {"price": (1.5,), "stock": (3,)}
    assert taken.as_columns(taken.columns) is taken
    other = taken.as_columns([Column("price", "text"), Column("stock", "int64")])
    assert other.typed == {"price": ("3", "1.5"), "stock": (5, 3)}
    assert taken.as_columns([Column("price", "text")]).typed == {"price": ("3", "1.5")}
    assert taken.as_columns([]).meta(1) == {"price": "1.5", "brand": "acme", "stock": 3, "tags": ["a"]}


def test_a_cell_that_does_not_fit_is_named_with_its_line_and_column() -> None:
    with pytest.raises(DataError, match=r"^catalog.csv, line 3, column 'price': the value is missing"):
        CELLS.as_columns([Column("price", "double")])
    with pytest.raises(DataError, match=r"^catalog.csv, line 5, column 'price': '3' is not of type bool"):
        CELLS.take([2, 0]).as_columns([Column("price", "bool")])
    with pytest.raises(DataError, match="no column 'colour', which the collection requires"):
        CELLS.as_columns([Column("colour", "text")])
    with pytest.raises(DataError, match="the dataset, photo 2, column 'n'"):
        ExtraColumns({"n": (1, None)}).as_columns([Column("n", "int64")])


def test_a_column_has_the_type_asked_for_or_that_of_its_cells() -> None:
    assert CELLS.column("stock") == Column("stock", "int64")
    assert CELLS.column("price") == Column("price", "text")
    assert CELLS.column("price", "double") == Column("price", "double")
    asked: list[tuple[tuple[Any, ...], str]] = [
        (("prise",), "no column 'prise'. Did you mean price"),
        (("price", "dubble"), "cannot have the type 'dubble'. Did you mean double"),
        (("tags",), "not texts, numbers or booleans"),
    ]
    for words, message in asked:
        with pytest.raises(ConfigError) as caught:
            CELLS.column(*words)
        assert message in str(caught.value)
    with pytest.raises(ConfigError, match="It has only"):
        ExtraColumns().column("price")
