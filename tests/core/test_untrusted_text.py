"""Text from outside is shown, never obeyed; nothing of it is lost in CSV."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.core.untrusted_text import csv_cell, printable, printable_lines

ANY = st.text(st.characters(codec=None))


@given(ANY)
def test_nothing_acts_on_a_terminal(text: str) -> None:
    assert printable(text).isprintable()
    assert all(line.isprintable() for line in printable_lines(text).split("\n"))


@pytest.mark.parametrize("act", ["\x1b[2J", "\0", "\u202e", "\x9b", "\u2028", "\udce9"])
def test_what_acts_is_an_escape(act: str) -> None:
    assert printable(f"wren {act}!").startswith("wren \\")
    assert printable("Zaunkönig \u732b") == "Zaunkönig \u732b"


@pytest.mark.parametrize("first", ["", "=", "+", "-", "@", "\t", "'", "\uff1d"])
@given(rest=st.text())
def test_no_cell_is_a_formula_and_each_can_be_had_back(first: str, rest: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([csv_cell(first + rest), csv_cell(-1)])
    ((cell, number),) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\uff1d"))
    assert (cell.removeprefix("'"), number) == (first + rest, "-1")
