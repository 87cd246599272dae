"""The gallery holds everything, loads nothing, and no name can break out of its place."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import cast

import pytest
from PIL import Image
from pymilvus import MilvusClient

from milvus_fghash.errors import DataError
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.schema import CollectionMetadata
from milvus_fghash.search.gallery import Query, missing_photos, write_gallery
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


def collection_named(name: str) -> HashCollection:
    """As if it had been opened; the page reads only what is known of it."""
    client = cast(MilvusClient, None)
    model = CollectionMetadata(method="itq", lineage="ab", fingerprint="cd", bits=24)
    return HashCollection(client, name, model, "BIN_FLAT", None, "Bounded", False, None, False, ())


def page_of(photos: Path, *queries: Query, filter: str = "", title: str = "Hits", collection: str = "birds") -> Page:
    path = photos.parent / "page.html"
    write_gallery(path, queries, photos, collection=collection_named(collection), filter=filter, title=title)
    page = Page.read(path)
    page.check_self_contained()
    return page


def test_photos_are_inside_and_small(photos: Path) -> None:
    found = SearchResult((hit("a.png"), hit("b.png", 1)), True)
    page = page_of(photos, Query("a.png", found, photos / "a.png"))
    assert len(page.sources) == 3
    for source in page.sources:
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            assert image.size == (256, 128)


def test_the_heading_says_what_was_searched(photos: Path) -> None:
    query = Query("q", SearchResult((hit("a.png", 3, "013.Red_faced_Cormorant"),), True))
    page = page_of(photos, query, filter='label == "x"')
    assert 'Collection birds Method itq Code length 24 bits Filter label == "x"' in page.text
    assert "3 of 24 bits Red faced Cormorant a.png" in page.text
    assert "Filter" not in page_of(photos, query).text


def test_hits_are_marked_right_or_wrong_where_both_classes_are_known(photos: Path) -> None:
    hits = (hit("a.png", 0, "robin"), hit("b.png", 1, "wren"), hit("a.png", 2, ""))
    known = page_of(photos, Query("q", SearchResult(hits, True), photos / "a.png", "robin"))
    assert known.kinds == ["", "right", "wrong", ""]
    assert "1 of 3 hits is of the query's class" in known.text
    assert "0 of 24 bits robin ✓ right class a.png" in known.text
    assert "1 of 24 bits wren ✗ wrong class b.png" in known.text
    unknown = page_of(photos, Query("q", SearchResult(hits, True), photos / "a.png"))
    assert unknown.kinds == ["", "", "", ""]
    assert " class" not in unknown.text


def test_hits_that_may_be_missing_are_announced_without_options(photos: Path) -> None:
    hits = (hit("a.png"),)
    assert "Note:" not in page_of(photos, Query("q", SearchResult(hits, True))).text
    page = page_of(photos, Query("q", SearchResult(hits, False)))
    assert "Note: more rows may be at the same distance as the last one." in page.text
    assert "--" not in page.text
    assert "Note: some reason." in page_of(photos, Query("q", SearchResult(hits, False, "some reason"))).text


def test_names_cannot_break_out(photos: Path) -> None:
    evil = '"><script>alert(1)</script><img src="http://x/\x1b]0;a\0\u202e'
    found = SearchResult((hit(evil, 3, evil),), True, note=evil)
    page = page_of(photos, Query(evil, found, label=evil), filter=evil, title=evil, collection=evil)
    assert not page.sources
    # title, heading, collection, filter; name and label of the query; label and path of the hit; note
    assert page.text.count("alert(1)") == page.text.count("\\x1b]0;a\\x00\\u202e") == 9
    raw = (photos.parent / "page.html").read_text(encoding="utf-8")
    assert all(line.isprintable() for line in raw.split("\n"))


def test_own_id_columns_and_meta_are_below_a_hit(photos: Path) -> None:
    evil = "<script>alert(1)</script>"
    meta = {"tags": ["é", 1], "note": "y" * 100, evil: evil, "id": "SKU-7"}
    known = Hit("a", 0, "a.png", "", "", meta, {"price": 9.5, "sold": True}, own_id="SKU-7")
    page = page_of(photos, Query("q", SearchResult((known,), True)))
    for text in ("id: SKU-7", "price: 9.5", "sold: true", 'tags: ["é", 1]', f"note: {'y' * 80}...", f"{evil}: {evil}"):
        assert text in page.text
    assert page.text.count("SKU-7") == 1


def test_missing_broken_and_outside_photos_get_an_empty_tile(photos: Path) -> None:
    outside = photos.parent / "outside.png"
    Image.new("RGB", (5, 5)).save(outside)
    paths = ("gone.png", "broken.png", "../outside.png", str(outside), "", "caf\udce9.png")
    page = page_of(photos, Query("id 7", SearchResult(tuple(hit(path) for path in paths), True)))
    assert not page.sources
    assert page.text.count("no photo") == 7
    assert "(missing)" in page.text
    assert "(format)" in page.text
    assert "6 of the 7 photos of the page are not in" not in missing_photos(photos, paths)
    assert missing_photos(photos, ["a.png", *paths]).startswith("5 of the 7 photos of the page are not in")
    assert missing_photos(photos, ["gone.png"]).startswith("none of the 1 photos")
    assert missing_photos(photos, ["a.png", "b.png"]) == ""


def test_several_queries_and_no_hits(photos: Path) -> None:
    page = page_of(photos, Query("one", SearchResult((hit("a.png", 1),), True)), Query("two", SearchResult((), True)))
    assert page.tags.count("section") == 2
    assert page.text.count("No photo was found.") == 1


def test_a_page_that_cannot_be_written(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        write_gallery(tmp_path / "file" / "page.html", [], photos, collection=collection_named("c"))
