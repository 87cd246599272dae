"""URLs are asked for byte for byte: a signature is over the URL as it is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from milvus_fghash.datasets.read import Url, read
from milvus_fghash.datasets.sources.fetch import request_revisions
from milvus_fghash.datasets.sources.http_session import as_sent
from milvus_fghash.datasets.sources.location import PhotoLocation
from milvus_fghash.datasets.sources.reader import read_source
from milvus_fghash.encoding.decode_options import DecodeOptions
from milvus_fghash.encoding.decode_stream import decode
from tests.helpers.archives import tar_of, zip_of
from tests.helpers.commands import GOLDEN, Run, document
from tests.helpers.decoders import SMALL, summary
from tests.helpers.http_server import Site
from tests.helpers.image_bytes import grey

SIGNED = "?Signature=qZ%2B1%2Fx%3D&x=a+b%20c&y=(~)!*'%27&Expires=1"
legal = st.text("abcXYZ019-._~:/?[]@!$&'()*+,;=", max_size=20)
encoded = st.lists(st.sampled_from(["%27", "%2F", "%2f", "%20", "%C3%A9", "%25"]), max_size=4)


@given(legal, encoded, legal)
def test_what_is_legal_stays_as_it_is(before: str, between: list[str], after: str) -> None:
    target = f"/a{before}{''.join(between)}{after}z"
    assert as_sent(URL(f"http://host{target}", encoded=True)).raw_path_qs == target


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("http://host/a b.png", "http://host/a%20b.png"),
        ("http://host/é%27.png?q=ü&r=%C3", "http://host/%C3%A9%27.png?q=%C3%BC&r=%C3"),
        ("http://host/100%.png", "http://host/100%25.png"),
        ('http://host/{a}|<b>"', "http://host/%7Ba%7D%7C%3Cb%3E%22"),
        ("http://bücher.example/a#b", "http://xn--bcher-kva.example/a"),
        ("http://host", "http://host/"),
    ],
)
def test_what_no_request_can_hold_is_encoded(written: str, sent: str) -> None:
    assert str(as_sent(URL(written, encoded=True))) == sent


def by_list(site: Site, url: str, folder: Path) -> list[int | str]:
    (folder / "list.csv").write_text(f'path\n"{url}"\n')
    dataset = read("table", folder / "list.csv")
    assert all(request_revisions([place for place in dataset.sources if isinstance(place, PhotoLocation)])())
    return summary(decode(dataset.sources, SMALL, DecodeOptions(workers=0)))


@pytest.mark.parametrize("path", ["/o%27bird.png", "/a%2Fb.png", "/a+b%2bc.png", "/caf%C3%A9.png"])
def test_get_head_and_redirects(site: Site, path: str, tmp_path: Path) -> None:
    there = URL(path, encoded=True).path
    site.files[there], site.signed[there] = grey(7), path + SIGNED
    assert by_list(site, f"{site.url}{path}{SIGNED}", tmp_path) == [7]
    site.moved["/moved.png"], site.files["/moved.png"] = f"{path}{SIGNED}", b""
    assert by_list(site, f"{site.url}/moved.png", tmp_path) == [7]
    site.moved["/moved.png"] = f"{site.url}{path}{SIGNED}"
    assert by_list(site, f"{site.url}/moved.png", tmp_path) == [7]


def test_a_sloppy_redirect_is_followed(site: Site) -> None:
    site.files["/a b é.png"] = grey(3)
    site.moved["/a.png"] = "/a b \xc3\xa9.png"
    assert read_source(PhotoLocation(f"{site.url}/a.png", "a"), 1000) == grey(3)


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_archives_by_parts(site: Site, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    site.files["/o'birds.arch"] = pack({"jay/a.png": grey(5), "jay/b.png": grey(6)})
    site.signed["/o'birds.arch"] = f"/o%27birds.arch{SIGNED}"
    kind = "tar" if pack is tar_of else "zip"
    dataset = read("archive", Url(f"{kind}://::{site.url}/o%27birds.arch{SIGNED}"))
    assert summary(decode(dataset.sources, SMALL, DecodeOptions(workers=0))) == [5, 6]
    assert all("Signature" not in path for path in dataset.paths)


def test_links_of_a_folder_are_asked_for_as_they_stand_there(site: Site) -> None:
    site.files = {"/p/": b'<a href="o%27bird%2Bx.png">x</a>', "/p/o'bird+x.png": grey(9)}
    site.signed["/p/o'bird+x.png"] = "/p/o%27bird%2Bx.png"
    dataset = read("folder", Url(f"{site.url}/p"))
    assert dataset.paths == ("o'bird+x.png",)
    assert summary(decode(dataset.sources, SMALL, DecodeOptions(workers=0))) == [9]


def test_photos_that_differ_by_their_query_are_searched_each(site: Site, run: Run, tmp_path: Path) -> None:
    site.files = {"/photo": grey(5)}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(grey(5))
    assert run("ingest", GOLDEN, "photos").exit_code == 0
    images = [word for n in (7, 8) for word in ("--image", f"{site.url}/photo?id={n}&Signature=SECRET")]
    first, second = document(run("search", GOLDEN, *images, "--json"))
    assert first["hits"][0]["path"] == second["hits"][0]["path"] == "a.png"
    assert first["query"] != second["query"]
    assert all(
        one["query"].startswith(f"{site.url}/photo?") and "SECRET" not in one["query"] for one in (first, second)
    )
