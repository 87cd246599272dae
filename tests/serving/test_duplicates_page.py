"""The page of duplicates shows the groups, holds its photos, and no name can break out of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from milvus_fghash.duplicates import Kind
from milvus_fghash.duplicates_record import Group, Member
from milvus_fghash.serving.duplicates_page import write_duplicates_page
from tests.serving.test_gallery import Page
from tests.small_duplicates import duplicates


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (300, 200), "green").save(folder / name)
    return folder


def group(kind: Kind, *paths: str, label: str = "") -> Group:
    members = tuple(
        Member(id=path, path=path, label=label, content_sha="", distance=place) for place, path in enumerate(paths)
    )
    return Group(kind=kind, distance=len(paths) - 1, members=members)


def page_of(photos: Path, *groups: Group, note: str = "", collection: str = "photos") -> Page:
    found = duplicates(groups, collection=collection, n_rows=1234, note=note)
    write_duplicates_page(photos.parent / "page.html", found, photos)
    return Page((photos.parent / "page.html").read_text(encoding="utf-8"))


def test_groups_and_counts(photos: Path) -> None:
    page = page_of(photos, group("exact", "a.png", "b.png"), group("near", "a.png", "b.png", "c.png"))
    assert "1,234 rows. 1 groups of equal files, with 1 rows to spare. 1 groups of near codes, with 2 to" in page.text
    assert "Equal files: 2 photos" in page.text
    assert "Near codes, up to 2 bits apart: 3 photos" in page.text
    assert page.tags.count("section") == 2
    assert page.kinds == ["query", "", "query", "", ""]
    assert len(page.sources) == 5
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert not page.links
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_names_cannot_break_out(photos: Path) -> None:
    evil = '"><script>alert(1)</script><img src="http://x/'
    page = page_of(photos, group("near", evil, evil + "2", label=evil), note=evil, collection=evil)
    assert "script" not in page.tags
    assert not page.sources
    assert page.text.count("alert(1)") == 7  # title, heading, note, twice label and path


def test_paths_that_lead_out_and_photos_that_are_gone_get_a_blank_tile(photos: Path) -> None:
    Image.new("RGB", (5, 5)).save(photos.parent / "outside.png")
    page = page_of(photos, group("near", "../outside.png", str(photos.parent / "outside.png"), "gone.png"))
    assert not page.sources
    assert page.text.count("no photo") == 3


def test_what_does_not_fit_is_counted(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.serving.duplicates_page.PHOTOS", 5)
    monkeypatch.setattr("milvus_fghash.serving.duplicates_page.MEMBERS", 3)
    long = group("near", *(f"{number}.png" for number in range(1003)))
    page = page_of(photos, long, group("near", "a.png", "b.png"), group("near", "a.png", "c.png"))
    assert page.tags.count("section") == 2
    assert len(page.kinds) == 5
    assert "1,000 more photos of this group are not shown." in page.text
    assert "1 more groups are not shown." in page.text
    assert "not shown" not in page_of(photos, group("near", "a.png", "b.png", "c.png")).text


def test_nothing_found(photos: Path) -> None:
    page = page_of(photos)
    assert "No duplicates were found." in page.text
    assert page.tags.count("p") == 2
    assert page_of(photos, note="a doubt").text.count("a doubt.") == 1
