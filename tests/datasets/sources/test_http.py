"""Photos behind a web server that is slow, fails, lies, or is not there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from milvus_fghash.datasets.read import Url, read
from milvus_fghash.datasets.sources.fetch import MAX_ATTEMPTS, request_revisions
from milvus_fghash.datasets.sources.location import PhotoLocation, resolve_source
from milvus_fghash.datasets.sources.reader import read_source
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import Photo, Rejected, decode
from milvus_fghash.errors import DataError, ImageRejected
from tests.helpers.decoders import SMALL, summary
from tests.helpers.http_server import Site
from tests.helpers.image_bytes import grey

pytestmark = pytest.mark.full


def places(site: Site, *paths: str) -> list[PhotoLocation]:
    found = [resolve_source(f"{site.url}{path}", Path(), "list")[1] for path in paths]
    assert all(isinstance(place, PhotoLocation) for place in found)
    return [place for place in found if isinstance(place, PhotoLocation)]


def rejection(place: PhotoLocation, max_bytes: int = 1000, seconds: float = 5) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        read_source(place, max_bytes, seconds)
    assert "\n" not in str(caught.value)
    assert place.display_name in str(caught.value)
    return caught.value


@pytest.mark.parametrize("workers", [0, 2])
def test_photos_come_in_order_with_the_bytes_of_the_server(site: Site, workers: int) -> None:
    site.files = {f"/{number}.png": grey(number) for number in range(40)}
    wanted = places(site, *site.files)
    assert summary(decode(wanted, SMALL, DecodeOptions(workers=workers))) == list(range(40))
    assert sorted(site.gets()) == sorted(site.files)  # one request each, and no other


@pytest.mark.parametrize(
    ("status", "reason", "tries"),
    [(404, "missing", 1), (410, "missing", 1), (403, "unreachable", 1), (503, "unreachable", MAX_ATTEMPTS)],
)
def test_what_a_server_answers(site: Site, status: int, reason: str, tries: int) -> None:
    site.status["/a.png"] = status
    (place,) = places(site, "/a.png")
    error = rejection(place)
    assert error.reason == reason
    assert reason == "missing" or f"the server responded with status {status}" in str(error)
    assert len(site.gets()) == tries


def test_a_busy_server_is_asked_again(site: Site) -> None:
    site.files["/a.png"] = grey(7)
    site.once["/a.png"] = 503
    (place,) = places(site, "/a.png")
    assert read_source(place, 1000) == grey(7)
    assert site.gets() == ["/a.png", "/a.png"]


def test_an_answer_that_breaks_off_is_no_photo(site: Site) -> None:
    site.files["/a.png"] = grey(7)
    site.cut.add("/a.png")
    (place,) = places(site, "/a.png")
    assert rejection(place).reason == "unreachable"
    assert len(site.gets()) == MAX_ATTEMPTS


def test_nobody_there(site: Site) -> None:
    assert rejection(PhotoLocation("http://127.0.0.1:9/a.png", "http://127.0.0.1:9/a.png")).reason == "unreachable"


def test_empty_and_too_large_are_told_without_reading_on(site: Site) -> None:
    site.files = {"/empty.png": b"", "/large.png": bytes(1 << 27), "/fits.png": bytes(1000)}
    empty, large, fits = places(site, *site.files)
    assert rejection(empty).reason == "empty"
    assert rejection(large).reason == "too-large"
    assert site.sent < 1 << 26  # what lies in buffers
    assert read_source(fits, 1000) == bytes(1000)


def test_a_server_that_hangs_costs_its_photos_and_no_process(site: Site) -> None:
    site.files = {f"/{number}.png": grey(number) for number in range(12)}
    site.hang = {"/1.png", "/2.png", "/9.png"}
    start = time.monotonic()
    seen = list(decode(places(site, *site.files), SMALL, DecodeOptions(workers=1, decode_timeout=2.0)))
    assert summary(seen) == [0, "timeout", "timeout", *range(3, 9), "timeout", 10, 11]
    assert time.monotonic() - start < 10  # those that hang do so side by side
    assert len(site.gets()) == 12  # nothing is fetched twice, as for a worker that was ended


def test_a_photo_is_fetched_while_another_is(site: Site) -> None:
    site.files = {f"/{number}.png": grey(number) for number in range(40)}
    site.seconds = 0.2
    start = time.monotonic()
    assert summary(decode(places(site, *site.files), SMALL, DecodeOptions(workers=1))) == list(range(40))
    assert time.monotonic() - start < 4  # 8 s one after the other


def test_a_redirect_leads_to_another_page_and_to_no_file(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(grey(1))
    site.files["/there.png"] = grey(2)
    site.moved = {"/a.png": f"{site.url}/there.png", "/b.png": f"file://{tmp_path}/secret.png", "/c.png": "/c.png"}
    a, b, c = places(site, *site.moved)
    assert read_source(a, 1000) == grey(2)
    assert rejection(b).reason == "unreachable"
    assert rejection(c).reason == "unreachable"  # for ever to itself


def test_versions_are_asked_for_without_reading(site: Site) -> None:
    site.files = {"/a.png": grey(1), "/b.png": grey(2)}
    wanted = places(site, "/a.png", "/b.png", "/none.png")
    a, b, none = request_revisions(wanted)()
    assert a
    assert a != b
    assert none == ""
    assert site.gets() == []
    site.etags = False
    assert request_revisions(wanted)() == ["", "", ""]  # a size alone is no version


def test_a_list_at_a_url(site: Site) -> None:
    site.files = {
        "/lists/birds.csv": f"path,label\na b/1#.png,jay\n{site.url}/2.png?id=5,wren\n".encode(),
        "/lists/a b/1#.png": grey(1),
        "/2.png": grey(2),
    }
    dataset = read("table", Url(f"{site.url}/lists/birds.csv?signature=0f3a"))
    assert dataset.labels == ("jay", "wren")
    assert dataset.paths[0] == "a b/1#.png"
    assert summary(decode(dataset.sources, SMALL, DecodeOptions(workers=0))) == [1, 2]
    assert str(dataset.origin) == f"{site.url}/lists/birds.csv"


@pytest.mark.parametrize(
    "path",
    ["file:///etc/passwd", "local:///etc/passwd", "/etc/passwd", "../a.png", "zip://a.png::/etc/a.zip", "FILE://a.png"],
)
def test_a_list_at_a_url_leads_to_no_file_here(site: Site, path: str) -> None:
    site.files["/birds.csv"] = f"path\n{path}\n".encode()
    with pytest.raises(DataError, match=r"/birds.csv, line 2: (a list cannot contain|the path)") as caught:
        read("table", Url(f"{site.url}/birds.csv"))
    assert "/tmp" not in str(caught.value)


def test_a_list_that_is_not_there(site: Site) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read("table", Url(f"{site.url}/birds.csv"))


def test_a_page_of_links_is_a_folder(site: Site) -> None:
    site.files = {
        "/photos/": b'<a href="jay/"> <a href="../up.png"> <a href="http://other/x.png"> <a href="?C=M">',
        "/photos/jay/": b'<a href="a%20b.png">a b</a> <a href=".hidden.png">h</a> <a href="notes.txt">n</a>',
        "/photos/jay/a b.png": grey(3),
    }
    for end in ("", "/"):
        dataset = read("folder", Url(f"{site.url}/photos{end}"))
        assert (dataset.paths, dataset.labels) == (("jay/a b.png",), ("jay",))
        assert summary(decode(dataset.sources, SMALL, DecodeOptions(workers=0))) == [3]


def test_secrets_are_in_no_message(site: Site) -> None:
    site.status["/a.png"] = 403
    url = f"{site.url}/a.png?X-Amz-Signature=SECRET".replace("://", "://me:SECRET@")
    _, place = resolve_source(url, Path(), "list")
    (one,) = decode([place], SMALL, DecodeOptions(workers=1))
    assert isinstance(one, Rejected)
    assert "SECRET" not in f"{one.path} {one.message}"
    assert site.asked == [("GET", "/a.png")]
    for broken in (
        "http://me:SECRET@127.0.0.1:9/a.png?sig=SECRET",
        "http://me:SECRET@[/a.png",
        "http://me:SECRET@h:x/a",
    ):
        with pytest.raises(DataError) as caught:
            read_source(PhotoLocation(broken, "the photo"), 1000)
        assert "SECRET" not in str(caught.value)


def test_good_photos_stay_photos_beside_failing_ones(site: Site) -> None:
    site.files = {f"/{number}.png": grey(number) for number in range(30)}
    site.status = {"/3.png": 500, "/4.png": 404}
    site.cut = {"/7.png"}
    seen = list(decode(places(site, *site.files), SMALL, DecodeOptions(workers=2)))
    expected = [number for number in range(30) if number not in (3, 4, 7)]
    assert [one.row for one in seen if isinstance(one, Photo)] == expected


def test_columns_of_a_list_at_a_url(site: Site, tmp_path: Path) -> None:
    text = f"path,price\na.png,1.5\n{site.url}/b.png?id=5,cheap\n"
    site.files = {"/birds.csv": text.encode(), "/a.png": grey(1), "/b.png": grey(2)}
    (tmp_path / "birds.csv").write_text(text)
    (tmp_path / "a.png").write_bytes(grey(3))
    url, here = Url(f"{site.url}/birds.csv?signature=0f3a"), tmp_path / "birds.csv"
    for place, shown, first in ((url, f"{site.url}/birds.csv", 1), (here, str(here), 3)):
        dataset = read("table", place)
        assert dataset.extra_columns.values == {"price": ("1.5", "cheap")}
        assert summary(decode(dataset.sources, SMALL, DecodeOptions(workers=0))) == [first, 2]
        column = dataset.extra_columns.column("price", "double")
        assert dataset.take([0]).as_columns([column]).extra_columns.typed == {"price": (1.5,)}
        with pytest.raises(DataError, match=r"line 3, column 'price': 'cheap' is not of type double") as caught:
            dataset.as_columns([column])
        assert str(caught.value).startswith(f"{shown}, line 3")
