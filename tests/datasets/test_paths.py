"""Paths in lists must stay below the data set's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.datasets.paths import FolderBoundary, relative_path
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
        relative_path(path, "list, line 3")


@pytest.mark.parametrize("path", ["a.jpg", "..a/b", "a/...", "grün/鳥.jpg", " a ", "a/b:c.jpg"])
def test_paths_that_stay(path: str) -> None:
    assert relative_path(path, "here") == path


def test_files_below_a_folder_with_links_followed(tmp_path: Path) -> None:
    photos, outside = tmp_path / "photos", tmp_path / "photos-2"
    for folder in (photos / "in", outside):
        folder.mkdir(parents=True)
        (folder / "a.jpg").touch()
    links: dict[str, str | Path] = {
        "up.jpg": "../photos-2/a.jpg", "in.jpg": "in/a.jpg", "round.jpg": "round.jpg", "gone.jpg": "/gone",
        "away": outside, "here": "in", "in/back.jpg": "../../photos/in/a.jpg", "in/top.jpg": "../up.jpg",
    }  # fmt: skip
    for name, target in links.items():
        (photos / name).symlink_to(target)
    (tmp_path / "link").symlink_to(photos)
    for root in (photos, tmp_path / "link"):
        below = FolderBoundary(root)
        held = ("in/a.jpg", "in.jpg", "round.jpg", "here/a.jpg", "in/back.jpg", "nothing.jpg")
        assert [path for path in held if path not in below] == []
        led_out = ("up.jpg", "gone.jpg", "away/a.jpg", "away/nothing.jpg", "in/top.jpg")
        assert [path for path in led_out if path in below] == []
    assert "etc/passwd" in FolderBoundary(Path("/"))
    assert "a\0b/c.jpg" in FolderBoundary(photos)


@given(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.lists(st.sampled_from(["..", ".", "a", "", "b c"])).map("/".join)
)
def test_what_is_let_through_lies_below(path: str) -> None:
    try:
        kept = relative_path(path, "here")
    except DataError:
        return
    root = Path("/data/set")
    below = Path(*(root / kept).parts)
    assert root in below.parents
    assert ".." not in below.parts
    assert relative_path(kept, "here") == kept
