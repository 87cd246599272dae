"""Paths in lists must stay below the data set's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.data.paths import inside
from milvus_fghash.errors import DataError

ESCAPES = [
    "",
    ".",
    "./",
    "..",
    "../a",
    "a/../../b",
    "a/..",
    "/a",
    "//a",
    "\\a",
    "..\\a",
    "a\\..\\..\\b",
    "C:\\a",
    "c:a",
    "a\0b",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_paths_that_leave_the_folder(path: str) -> None:
    with pytest.raises(DataError, match=r"list, line 3: the path .* must be relative"):
        inside(path, "list, line 3")


@pytest.mark.parametrize("path", ["a.jpg", "..a/b", "a/...", "grün/鳥.jpg", " a ", "a/b:c.jpg"])
def test_paths_that_stay(path: str) -> None:
    assert inside(path, "here") == path


@given(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.lists(st.sampled_from(["..", ".", "a", "", "b c"])).map("/".join)
)
def test_what_is_let_through_lies_below(path: str) -> None:
    try:
        kept = inside(path, "here")
    except DataError:
        return
    root = Path("/data/set")
    below = Path(*(root / kept).parts)
    assert root in below.parents
    assert ".." not in below.parts
    assert inside(kept, "here") == kept
