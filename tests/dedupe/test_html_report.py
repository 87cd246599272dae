"""The page of duplicates shows the groups, holds its photos, and no name can break out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milvus_fghash.dedupe.grouping import Kind
from milvus_fghash.dedupe.html_report import write_duplicates_page
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
    members = tuple(
        Member(id=path, path=path, label=label, content_sha="s" if kind == "exact" else "", distance=place)
        for place, path in enumerate(paths)
    )
    return Group(kind=kind, distance=len(paths) - 1, members=members)


def page_of(photos: Path, *groups: Group, note: str = "", collection: str = "photos") -> Page:
    found = duplicates(groups, collection=collection, n_rows=1234, note=note)
    write_duplicates_page(photos.parent / "page.html", found, photos)
    return Page((photos.parent / "page.html").read_text(encoding="utf-8"))


def test_groups_and_counts(photos: Path) -> None:
    page = page_of(photos, group("exact", "a.png", "b.png"), group("near", "a.png", "b.png", "c.png"))
    assert "1,234 rows. 1 groups of equal files, with 1 rows to spare. 1 groups of near codes, with 2 to" in page.text
    assert "hint, no proof" in page.text
    assert "hint, no proof" not in page_of(photos, group("exact", "a.png", "b.png")).text  # equal files need no caution
    assert "Equal files: 2 photos" in page.text
    assert "Near codes, up to 2 bits apart: 3 photos" in page.text
    assert page.tags.count("section") == 2
    assert page.kinds == ["query", "copy", "query", "", ""]
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
    monkeypatch.setattr("milvus_fghash.dedupe.html_report.PAGES", 1)
    monkeypatch.setattr("milvus_fghash.dedupe.html_report.PAGE_BYTES", 1200)
    monkeypatch.setattr("milvus_fghash.dedupe.html_report.MEMBERS", 3)
    long = group("near", *(f"{number}.png" for number in range(1003)))
    page = page_of(photos, group("near", "a.png", "b.png"), group("near", "a.png", "c.png"), long)
    assert page.tags.count("section") == 2
    assert len(page.kinds) == 5
    assert "1,000 more photos of this group are not shown." in page.text
    assert "1 more groups are not shown." in page.text
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
    places = [page.text.index(name) for name in ("g1", "f1", "e1", "d1", "a.png", "c1")]
    assert places == sorted(places)
    assert page.text.count("2 photos of 2 classes") == 2
    assert "copy of e1, 3 bits of the perceptual hash apart" in page.text
    assert "not confirmed: no perceptual hash" in page.text
    assert page.kinds.count("copy") == 4


def test_a_large_result_is_several_small_pages(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.dedupe.html_report.PAGE_BYTES", 2500)
    groups = [group("near", f"{number}a", f"{number}b") for number in range(20)]
    folder = photos.parent
    (folder / "page-x.html").write_text("of somebody")
    found = duplicates(groups, collection="photos", n_rows=40)
    files = write_duplicates_page(folder / "page.html", found, photos)
    assert [file.name for file in files] == ["page.html", *(f"page-{n}.html" for n in range(2, len(files) + 1))]
    assert len(files) > 3
    pages = [Page(file.read_text(encoding="utf-8")) for file in files]
    assert sum(page.tags.count("section") for page in pages) == 20
    assert all(len(file.read_bytes()) < 2500 + 5000 for file in files)  # and the style
    for number, page in enumerate(pages):
        others = [file.name for place, file in enumerate(files) if place != number]
        assert page.hrefs == others * 2
    found = duplicates(groups[:1], collection="photos", n_rows=40)
    assert write_duplicates_page(folder / "page.html", found, photos) == [folder / "page.html"]
    assert sorted(file.name for file in folder.glob("page*")) == ["page-x.html", "page.html"]


def test_a_further_page_takes_no_file_of_others(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.dedupe.html_report.PAGE_BYTES", 100)
    mine = photos.parent / "page-2.html"
    mine.write_text("a thesis")
    with pytest.raises(DataError, match=r"page-2.html would be the next page of page.html, and is something else"):
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
    assert len(files) > 1
    assert max(file.stat().st_size for file in files) < 3_000_000


def test_nothing_found(photos: Path) -> None:
    page = page_of(photos)
    assert "No duplicates were found." in page.text
    assert page.tags.count("p") == 2
    assert page_of(photos, note="a doubt").text.count("a doubt.") == 1
