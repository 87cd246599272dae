"""Which pages of web servers are list_folders of folders, and what becomes of folders whose page is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from milvus_fghash.datasets.read import Url, read
from milvus_fghash.datasets.sources.http_folder import list_folders
from milvus_fghash.datasets.sources.location import InvalidSource
from milvus_fghash.errors import DataError, ImageRejected
from tests.helpers.http_pages import LOGIN, NGINX, SIGN_IN
from tests.helpers.http_server import Site
from tests.helpers.image_bytes import grey

APACHE = (
    "<html><head><title>Index of /p</title></head><body><h1>Index of /p</h1><table><tr><th>"
    '<a href="?C=N;O=D">Name</a></th></tr><tr><td><a href="/">Parent Directory</a></td></tr>{}</table></body></html>'
)
PYTHON = "<!DOCTYPE HTML><title>Directory listing for /p/</title><h1>Directory listing for /p/</h1><ul>{}</ul>"
CADDY = '<title>p</title><h1><a href="../">/</a><a href="./">p</a></h1><a href="..">Up</a><table>{}</table>'
LIGHTTPD = "<title>Index of /p/</title><h2>Index of /p/</h2><table><a href='../'>..</a>/ {}</table>"
IIS = '<title>host - /p/</title><H1>host - /p/</H1><hr><pre><A HREF="/">[To Parent Directory]</A><br>{}</pre>'
SERVE = "<title>Files within p/</title><ul>{}</ul>"
PAGES = {
    "nginx": NGINX,
    "apache": APACHE,
    "python": PYTHON,
    "caddy": CADDY,
    "lighttpd": LIGHTTPD,
    "iis": IIS,
    "serve": SERVE,
}
RELATIVE = '<a href="jay/">jay/</a> <a href="a%20b.png">a b.png</a>'
ABSOLUTE = '<A HREF="/p/jay/">jay</A> <A HREF="/p/a%20b.png">a b.png</A>'

SEARCH = '<form role="search"><input name="q"><input type="search"></form>'
"""What some themes put on their list_folders."""


@pytest.mark.parametrize("name", PAGES)
def test_pages_as_web_servers_make_them(site: Site, name: str) -> None:
    page = PAGES[name]
    links = ABSOLUTE if name in ("iis", "serve") else RELATIVE
    site.files["/p/"], site.kinds["/p/"] = page.format(links).encode(), "text/html; charset=utf-8"
    assert list_folders([f"{site.url}/p/"]) == [
        {"jay/": f"{site.url}/p/jay/", "a b.png": f"{site.url}/p/a%20b.png"},
    ]
    for form in (SEARCH, '<input type="text" placeholder="filter" id="filter">'):
        site.files["/p/"] = page.format(links + form).encode()
        (found,) = list_folders([f"{site.url}/p/"])
        assert not isinstance(found, ImageRejected), form
        assert found.keys() == {"jay/", "a b.png"}
    site.files["/p/"] = page.format("").encode()
    assert list_folders([f"{site.url}/p/"]) == [{}], "empty, and says so"


def login_elsewhere(site: Site, page: str) -> None:
    site.files["/login"] = f'<a href="{page}a.png">back</a>'.encode()
    site.moved[page] = "/login?next=/birds/"
    site.files.pop(page)


def page_of(text: str, kind: str = "text/html") -> Callable[[Site, str], None]:
    def change(site: Site, page: str) -> None:
        site.files[page], site.kinds[page] = text.encode(), kind

    return change


def answers(status: int) -> Callable[[Site, str], None]:
    return lambda site, page: site.status.__setitem__(page, status)


NONE_AT_ALL = {
    "nothing": (page_of(""), "returns an empty page, not the listing of a folder"),
    "a login page elsewhere": (login_elsewhere, "redirects to http"),
    "a login page in place": (page_of(LOGIN), "returns a page that asks for a password"),
    "a form to write in": (page_of(SIGN_IN), "returns a page with a form, not the listing"),
    "a form with a box": (page_of('<form><textarea></textarea></form><a href="a.png">'), "with a form"),
    "a password in capitals": (page_of('<a href="a.png"><INPUT TYPE="Password">'), "asks for a password"),
    "another page": (
        page_of('<p>Welcome. <a href="/">Home</a> <a href="https://elsewhere/a.png">x</a>'),
        "a page without links",
    ),
    "json": (
        page_of('{"error": "maintenance"}', "application/json"),
        "returns application/json; expected a page that links",
    ),
    "403": (answers(403), "the server responded with status 403"),
    "404": (answers(404), "does not exist"),
}


def birds(site: Site) -> Site:
    site.files = {f"/birds/{name}/{n}.png": grey(n) for name in ("jay", "wren") for n in range(3)}
    site.files["/birds/"] = NGINX.format('<a href="jay/">jay/</a><a href="wren/">wren/</a>').encode()
    for name in ("jay", "wren"):
        links = "".join(f'<a href="{n}.png">{n}</a>' for n in range(3))
        site.files[f"/birds/{name}/"] = NGINX.format(links).encode()
    return site


@pytest.mark.parametrize("fault", NONE_AT_ALL)
def test_a_page_that_is_no_listing_is_rejected(site: Site, fault: str) -> None:
    change, expected = NONE_AT_ALL[fault]
    change(birds(site), "/birds/jay/")
    dataset = read("folder", Url(f"{site.url}/birds"))
    assert dataset.paths == ("jay", "wren/0.png", "wren/1.png", "wren/2.png")
    place = dataset.source(0)
    assert isinstance(place, InvalidSource)
    assert place.reason == ("missing" if fault == "404" else "unreachable")
    assert expected in place.message
    assert dataset.unlisted == ("jay",)
    assert [dataset.covers(path) for path in ("jay/0.png", "jay", "jaybird/0.png", "wren/0.png")] == [
        False, False, True, True,
    ]  # fmt: skip
    change(birds(site), "/birds/")
    with pytest.raises(DataError, match=r"^cannot list http") as caught:
        read("folder", Url(f"{site.url}/birds"))
    assert expected in str(caught.value)


def test_a_folder_without_photos_is_read_and_not_known(site: Site) -> None:
    birds(site).files["/birds/jay/"] = NGINX.format('<a href="readme.txt">readme</a>').encode()
    dataset = read("folder", Url(f"{site.url}/birds/"))
    assert (dataset.labels, dataset.unlisted) == (("wren",) * 3, ("jay",))
    site.files["/birds/wren/"] = NGINX.format("").encode()
    with pytest.raises(DataError, match="no photos found in http"):
        read("folder", Url(f"{site.url}/birds/"))


def test_a_host_that_is_down_is_told_as_such() -> None:
    with pytest.raises(DataError, match=r"cannot list http://127.0.0.1:9/birds: .* Cannot connect to host"):
        read("folder", Url("http://127.0.0.1:9/birds"))


def test_what_links_lead_away_or_twice_to_is_left_alone(site: Site) -> None:
    birds(site).files["/birds/"] = (
        b'<base><a href="jay/"> <a href="./jay/"> <a href="jay/0.png"> <a href="?C=N"> <a href="#top"> <a href=".git/">'
        b'<a href="//other/birds/x.png"> <a href="http://[bad/x.png"> <a href="../up/"> <a href="jay/../../up.png">'
        b'<a href="wren/?sort=1"> <a href="mailto:x@y"> <a>'
    )
    dataset = read("folder", Url(f"{site.url}/birds/"))
    assert dataset.paths == ("jay/0.png", "jay/1.png", "jay/2.png")
    assert sorted(site.gets()) == ["/birds/", "/birds/jay/"]


def test_pages_without_end_are_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.datasets.sources.remote_folder.MAX_FOLDERS", 30)
    site.files = {f"/{'more/' * depth}": b'<a href="more/">more</a>' for depth in range(40)}
    with pytest.raises(DataError, match="has more than 30 folders"):
        read("folder", Url(site.url))


def test_the_slash_and_https_make_no_other_place(site: Site) -> None:
    from milvus_fghash.datasets.sources.fetch import Page
    from milvus_fghash.datasets.sources.http_folder import _listing

    for came, good in (
        ("https://HOST/birds", True),
        ("http://host:80/birds/", True),
        ("http://host/b%69rds/", True),
        ("http://host:8080/birds/", False),
        ("http://www.host/birds/", False),
        ("http://host/birds/jay/", False),
    ):
        answer = _listing(Page(came, "text/html", '<a href="a.png">'), "http://host/birds/")
        assert isinstance(answer, ImageRejected) is not good, came


def test_a_key_in_the_url_of_a_folder_goes_to_its_page(site: Site) -> None:
    birds(site).signed["/birds/"] = "/birds/?key=a%2Fb"
    dataset = read("folder", Url(f"{site.url}/birds?key=a%2Fb"))
    assert len(dataset) == 6
    assert str(dataset.origin) == f"{site.url}/birds"
