"""The page holds everything, loads nothing, and no name can break out of it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from milvus_fghash.errors import DataError
from milvus_fghash.search.html_report import Query, write_gallery
from milvus_fghash.search.search import Hit, SearchResult
from tests.helpers.html_page import Page


def hit(path: str, distance: int = 0, label: str = "") -> Hit:
    return Hit(path, distance, path, label, "", {})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (600, 300), "red").save(folder / name)
    (folder / "broken.png").write_text("no picture")
    return folder


def page_of(tmp_path: Path, photos: Path, *queries: Query) -> Page:
    path = tmp_path / "page.html"
    write_gallery(path, queries, photos)
    return Page(path.read_text(encoding="utf-8"))


def test_photos_are_inside_and_small(tmp_path: Path, photos: Path) -> None:
    page = page_of(
        tmp_path, photos, Query("a.png", SearchResult((hit("a.png"), hit("b.png", 1)), True), photos / "a.png")
    )
    assert len(page.sources) == 3
    for source in page.sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.size == (256, 128)
    assert not page.links
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_frames_tell_right_from_wrong_where_the_label_is_known(tmp_path: Path, photos: Path) -> None:
    hits = (hit("a.png", 0, "robin"), hit("b.png", 1, "wren"), hit("a.png", 2, ""))
    known = Query("q", SearchResult(hits, True), photos / "a.png", "robin")
    assert page_of(tmp_path, photos, known).kinds == ["query", "right", "wrong", ""]
    unknown = Query("q", SearchResult(hits, True), photos / "a.png")
    assert "may be missing" not in page_of(tmp_path, photos, unknown).text
    assert "may be missing" in page_of(tmp_path, photos, Query("q", SearchResult(hits, False))).text
    assert page_of(tmp_path, photos, unknown).kinds == ["query", "", "", ""]


def test_names_cannot_break_out(tmp_path: Path, photos: Path) -> None:
    evil = '"><script>alert(1)</script><img src="http://x/\x1b]0;a\0\u202e'
    found = SearchResult((hit(evil, 3, evil),), True, note=evil)
    write_gallery(tmp_path / "page.html", [Query(evil, found, label=evil)], photos, title=evil)
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert not page.sources
    assert page.text.count("alert(1)") == 6  # title, heading, query's label and name, hit's label, note
    assert "3 bits" in page.text
    raw = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert all(line.isprintable() for line in raw.split("\n"))
    assert page.text.count("\\x1b]0;a\\x00\\u202e") == 7  # the same, and the name of the photo


def test_columns_and_meta_stand_below_a_hit(tmp_path: Path, photos: Path) -> None:
    evil = "<script>alert(1)</script>"
    known = Hit(
        "a", 0, "a.png", "", "", {"tags": ["é", 1], "note": "y" * 100, evil: evil}, {"price": 9.5, "sold": True}
    )
    page = page_of(tmp_path, photos, Query("q", SearchResult((known,), True)))
    for words in ("price: 9.5", "sold: true", 'tags: ["é", 1]', f"note: {'y' * 80}...", f"{evil}: {evil}"):
        assert words in page.text
    assert "script" not in page.tags


def test_missing_broken_and_outside_photos_get_a_blank_tile(tmp_path: Path, photos: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "outside.png")
    paths = ("gone.png", "broken.png", "../outside.png", str(tmp_path / "outside.png"), "", "caf\udce9.png")
    page = page_of(tmp_path, photos, Query("id 7", SearchResult(tuple(hit(path) for path in paths), True)))
    assert not page.sources
    assert page.text.count("no photo") == 7
    assert "(missing)" in page.text
    assert "(format)" in page.text


def test_several_queries_and_none_found(tmp_path: Path, photos: Path) -> None:
    page = page_of(
        tmp_path, photos, Query("one", SearchResult((hit("a.png", 1),), True)), Query("two", SearchResult((), True))
    )
    assert page.tags.count("section") == 2
    assert "1 bit" in page.text
    assert "Nothing was found." in page.text


def test_a_page_that_cannot_be_written(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_gallery(tmp_path / "file" / "page.html", [], photos)
