"""The page of duplicates shows the groups, holds its photos, and no name can break out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milvus_fghash.dedupe.grouping import Kind
from milvus_fghash.dedupe.page import write_duplicates_page
from milvus_fghash.dedupe.report import Group, Member, copies
from milvus_fghash.errors import DataError
from tests.helpers.html_page import Page
from tests.helpers.small_duplicates import duplicates


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (300, 200), "green").save(folder / name)
    return folder


def group(kind: Kind, *paths: str, label: str = "") -> Group:
    sha = paths[0] if kind == "exact" else ""
    members = tuple(
        Member(id=path, path=path, label=label, content_sha=sha, distance=place) for place, path in enumerate(paths)
    )
    return Group(kind=kind, distance=len(paths) - 1, members=members)


def page_of(photos: Path, *groups: Group, note: str = "", collection: str = "photos") -> Page:
    found = duplicates(groups, collection=collection, n_rows=1234, note=note)
    write_duplicates_page(photos.parent / "page.html", found, photos)
    page = Page.read(photos.parent / "page.html")
    page.check_self_contained()
    return page


def test_groups_and_counts(photos: Path) -> None:
    page = page_of(photos, group("exact", "a.png", "b.png"), group("near", "a.png", "b.png", "c.png"))
    assert "Rows 1,234 Exact duplicates 1 group, 1 redundant row Near duplicates 1 group, 2 redundant rows" in page.text
    assert "not proven copies" in page.text
    assert "not proven" not in page_of(photos, group("exact", "a.png", "b.png")).text  # equal files need no caution
    assert "Exact duplicates: 2 rows First photo 2 equal files: a.png b.png" in page.text
    assert "Near duplicates: 3 rows, 0 confirmed copies" in page.text
    assert "2 of 48 code bits not a confirmed copy: no perceptual hash c.png" in page.text
    assert page.tags.count("section") == 2
    assert page.kinds == [""] * 4
    assert len(page.sources) == 4


def test_equal_files_are_one_photo(photos: Path) -> None:
    """And a group of equal files within a near group is not shown again."""
    members = [
        Member(id=f"{n}", path=path, label=label, content_sha=sha, distance=0, own_id=f"SKU-{n}")
        for n, (path, label, sha) in enumerate([("a.png", "x", "A"), ("b.png", "x", "A"), ("c.png", "y", "C")])
    ]
    exact = Group(kind="exact", distance=0, members=tuple(members[:2]))
    near = Group(kind="near", distance=0, members=tuple(members))
    page = page_of(photos, exact, near)
    assert page.tags.count("section") == 1
    assert len(page.sources) == 2
    assert "First photo x 2 equal files: a.png, id SKU-0 b.png, id SKU-1" in page.text
    other = members[0].model_copy(update={"label": "z"})
    mixed = Group(kind="exact", distance=0, members=(other, members[1]))
    assert "a.png (z), id SKU-0 b.png (x), id SKU-1" in page_of(photos, mixed).text
    many = group("exact", *(f"{number:02}.png" for number in range(11)))
    assert "11 equal files: 00.png 01.png 02.png 03.png 04.png 05.png 06.png 07.png and 3 more" in (
        page_of(photos, many).text
    )


def test_names_cannot_break_out(photos: Path) -> None:
    evil = '"><script>alert(1)</script><img src="http://x/'
    page = page_of(photos, group("near", evil, evil + "2", label=evil), note=evil, collection=evil)
    assert not page.sources
    assert page.text.count("alert(1)") == 7  # title, heading, note, twice label and path


def test_paths_that_lead_out_and_photos_that_are_gone_get_an_empty_tile(photos: Path) -> None:
    Image.new("RGB", (5, 5)).save(photos.parent / "outside.png")
    page = page_of(photos, group("near", "../outside.png", str(photos.parent / "outside.png"), "gone.png"))
    assert not page.sources
    assert page.text.count("no photo") == 3


def test_what_does_not_fit_is_counted(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.dedupe.page.MAX_PAGES", 1)
    monkeypatch.setattr("milvus_fghash.dedupe.page.PHOTOS_PER_PAGE", 5)
    monkeypatch.setattr("milvus_fghash.dedupe.page.MAX_PHOTOS_PER_GROUP", 3)
    long = group("near", *(f"{number}.png" for number in range(1003)))
    page = page_of(photos, group("near", "a.png", "b.png"), group("near", "a.png", "c.png"), long)
    assert page.tags.count("section") == 2
    assert len(page.kinds) == 5
    assert "1,000 more photos of this group are not shown." in page.text
    assert "1 more group is not shown." in page.text
    assert "not shown" not in page_of(photos, group("near", "a.png", "b.png", "c.png")).text


def with_phashes(found: Group, *phashes: int, labels: str = "") -> Group:
    """The group, of photos with these perceptual hashes, and of classes of one letter."""
    members = tuple(
        one.model_copy(update={"phash": f"{phash:016x}" if phash else "", "label": label})
        for one, phash, label in zip(found.members, phashes, labels or " " * len(phashes), strict=True)
    )
    return found.model_copy(update={"members": members, "confirmed": len(copies(members))})


def test_what_may_be_wrong_comes_first(photos: Path) -> None:
    """Several classes, then the copies that differ most, then the large ones; equal files of one class come last."""
    quiet = group("exact", "a.png", "b.png")
    doubtful = with_phashes(group("near", "c1", "c2", "c3"), 1, 2**64 - 1, 0)
    copied = with_phashes(group("near", "d1", "d2"), 0xFF, 0xFF)
    looser = with_phashes(group("near", "e1", "e2"), 0xFF, 0xF8)
    mixed = with_phashes(group("near", "f1", "f2"), 1, 2**64 - 1, labels="xy")
    mislabelled = with_phashes(group("near", "g1", "g2"), 0xFF, 0xFF, labels="xy")
    page = page_of(photos, quiet, doubtful, copied, looser, mixed, mislabelled)
    places = [page.text.index(f" {name} ") for name in ("g1", "f1", "e1", "d1", "a.png", "c1")]
    assert places == sorted(places)
    assert page.text.count("2 rows of 2 classes") == 2
    assert "✓ copy of e1, 3 of 64 hash bits differ" in page.text
    assert "not a confirmed copy: no perceptual hash" in page.text
    assert page.kinds.count("copy") == 3


def test_copies_follow_the_photo_that_is_kept(photos: Path) -> None:
    """The least alike first; photos without copies come last."""
    found = with_phashes(group("near", *"abcdef"), 2**64 - 1, 0, 0xF0F0, 2**64 - 1, 0xF0F1, 0xF0F3)
    page = page_of(photos, found)
    names = ("a", "d", "c", "f", "e", "b")
    places = [page.text.index(f" {name} ", page.text.index("First photo")) for name in names]
    assert places == sorted(places)
    assert page.kinds == ["", "copy", "", "copy", "copy", ""]
    for text in ("copy of a, 0 of 64", "copy of c, 2 of 64", "copy of c, 1 of 64"):
        assert text in page.text


def test_a_large_result_is_several_small_pages(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.dedupe.page.PHOTOS_PER_PAGE", 5)
    groups = [group("near", f"{number}a", f"{number}b") for number in range(20)]
    folder = photos.parent
    (folder / "page-x.html").write_text("of somebody")
    found = duplicates(groups, collection="photos", n_rows=40)
    files = write_duplicates_page(folder / "page.html", found, photos)
    assert [file.name for file in files] == ["page.html", *(f"page-{n}.html" for n in range(2, len(files) + 1))]
    pages = [Page.read(file) for file in files]
    assert [page.tags.count("section") for page in pages] == [3] * 6 + [2]
    for number, page in enumerate(pages):
        others = [file.name for place, file in enumerate(files) if place != number]
        assert page.hrefs == others * 2
    found = duplicates(groups[:1], collection="photos", n_rows=40)
    assert write_duplicates_page(folder / "page.html", found, photos) == [folder / "page.html"]
    assert sorted(file.name for file in folder.glob("page*")) == ["page-x.html", "page.html"]


def test_a_further_page_takes_no_file_of_others(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.dedupe.page.PHOTOS_PER_PAGE", 1)
    mine = photos.parent / "page-2.html"
    mine.write_text("a thesis")
    with pytest.raises(
        DataError, match=r"page-2.html would be the next page of page.html, but is not a page of duplicates"
    ):
        page_of(photos, group("near", "a", "b"), group("near", "c", "d"))
    assert mine.read_text() == "a thesis"
    assert not (photos.parent / "page.html").exists()


def test_a_page_of_photos_stays_small(photos: Path) -> None:
    """Noise, which compresses worst of all, in more groups than a page holds."""
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (200, 200, 3), np.uint8)
        Image.fromarray(noise).save(photos / f"{number}.png")
    groups = [group("near", *(f"{number}.png" for number in range(8)), "gone") for _ in range(40)]
    files = write_duplicates_page(photos.parent / "page.html", duplicates(groups), photos)
    assert len(files) == 2
    assert max(file.stat().st_size for file in files) < 2_500_000


def test_nothing_found(photos: Path) -> None:
    page = page_of(photos)
    assert "No duplicates were found." in page.text
    assert "section" not in page.tags
    assert page_of(photos, note="a warning").text.count("Note: a warning.") == 1
