"""What URLs are called, what of them is kept, and which a list may name."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.core.masking import without_secrets
from milvus_fghash.datasets.read import Url, read
from milvus_fghash.datasets.sources.fetch import revision_of
from milvus_fghash.datasets.sources.file_systems import fetch_error, filesystem
from milvus_fghash.datasets.sources.location import LIST_PROTOCOLS, PhotoLocation, name_of, resolve_source
from milvus_fghash.errors import DataError, MissingExtra
from milvus_fghash.milvus.rows import why_not_storable

words = st.text("abcXYZ019-_.~%+", min_size=1, max_size=12)
SIGNED = {
    "X-Amz-Signature": ("X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires"),
    "X-Goog-Signature": ("X-Goog-Date", "X-Goog-Expires"),
    "Signature": ("Expires", "Key-Pair-Id", "Policy", "AWSAccessKeyId", "GoogleAccessId"),
    "sig": ("sv", "se", "sr", "sp", "st", "spr", "sip", "skoid", "sktid", "skt", "ske", "sks", "skv", "si"),
}


@given(words, words, words, words, st.sampled_from(["http", "https", "ftp", "webdav"]))
def test_no_secret_is_in_a_name(user: str, password: str, path: str, query: str, protocol: str) -> None:
    secret = f"S3CR3T{password}"
    url = f"{protocol}://{user}:{secret}@host:99/{path}"
    if protocol.startswith("http"):
        url += f"?a={secret}{query}#{secret}"
    for shown in (without_secrets(url), name_of(url), str(Url(url)), str(fetch_error("it", OSError(f"at {url}")))):
        assert "S3CR3T" not in shown
    assert without_secrets(url) == f"{protocol}://host:99/{path}"


@pytest.mark.parametrize("signature", SIGNED)
def test_signing_again_keeps_the_name(signature: str) -> None:
    for kept in ("", "id=7&"):
        urls = [
            "https://host/a.jpg?" + kept + "&".join(f"{name}={value}" for name in (signature, *SIGNED[signature]))
            for value in ("one", "two")
        ]
        assert name_of(urls[0]) == name_of(urls[1])
    assert name_of(f"https://host/a.jpg?{signature}=one") == "https://host/a.jpg"


def test_a_query_that_tells_photos_apart_does() -> None:
    urls = [f"https://host/photo?{query}" for query in ("id=7", "id=8", "st=7", "id=7&size=2", "x=&id=7", "")]
    assert len({name_of(url) for url in urls}) == len(urls)
    assert name_of("https://host/photo?id=7&size=2") == name_of("https://host/photo?size=2&id=7")


def test_keys_of_a_bucket_are_no_queries() -> None:
    assert name_of("s3://bucket/a?b#c@d.jpg") == "s3://bucket/a?b#c@d.jpg"
    assert (Url("s3://bucket/birds/") / "a b#1.jpg").full == "s3://bucket/birds/a b#1.jpg"
    assert (Url("https://host/birds") / "a b#1.jpg").full == "https://host/birds/a%20b%231.jpg"


def test_what_a_list_at_a_url_is_relative_to() -> None:
    assert Url("https://me:x@host/lists/a.csv?sig=1").parent.full == "https://me:x@host/lists"
    assert Url("https://host/a.csv").parent.full == "https://host"
    assert Url("s3://bucket/a.csv").parent.full == "s3://bucket"
    assert (Url("https://host/l%20s/a%20b.CSV?x=.tar").name, Url("https://host/a.CSV?x=.tar").suffix) == (
        "a b.CSV",
        ".csv",
    )


@pytest.mark.parametrize("root", [Path("photos"), Url("https://host/lists")])
def test_what_a_list_may_name(root: Path | Url) -> None:
    for protocol in sorted(LIST_PROTOCOLS):
        path, place = resolve_source(f"{protocol}://host/a.jpg", root, "list")
        assert isinstance(place, PhotoLocation)
        assert (path, place.address, place.is_remote) == (f"{protocol}://host/a.jpg", f"{protocol}://host/a.jpg", True)
    path, place = resolve_source("jay/a.jpg", root, "list")
    there = "https://host/lists/jay/a.jpg"
    assert (path, place) == (
        "jay/a.jpg",
        Path("photos/jay/a.jpg") if isinstance(root, Path) else PhotoLocation(there, there),
    )
    bad = [
        "file:///etc/passwd",
        "local://x",
        "zip://a::b",
        "data://x",
        "reference://x",
        "ssh://x",
    ]
    bad += ["/etc/passwd", "../a.jpg", "", "a\0.jpg", "http://host/\n.jpg", "http://host/" + "a" * 5000, "C:\\a.jpg"]
    for text in bad:
        with pytest.raises(DataError, match=r"^list"):
            resolve_source(text, root, "list")


def test_a_chain_of_file_systems_is_not_followed() -> None:
    for url in ("s3://bucket/a::file:///etc/passwd", "http://host/a::local:///etc/passwd"):
        files, path = filesystem(url)
        assert "::" in path
        assert "s3" in files.protocol or "http" in files.protocol


@pytest.mark.parametrize(
    ("facts", "version"),
    [
        ({"ETag": '"a"', "LastModified": "now", "size": 3}, '"a" 3'),
        ({"etag": "b", "size": 3}, "b 3"),
        ({"Last-Modified": "Mon", "size": 3}, "Mon 3"),
        ({"mtime": 1.5, "size": 3}, "1.5 3"),
        ({"generation": "17", "size": 3}, "17 3"),
        ({"size": 3, "name": "a", "type": "file"}, ""),
        ({"ETag": None, "size": 3}, ""),
    ],
)
def test_versions(facts: dict[str, object], version: str) -> None:
    assert revision_of(facts) == version


@pytest.mark.parametrize(("url", "extra"), [("s3://b/x", "s3"), ("https://h/x", "http"), ("gs://b/x", "gcs")])
def test_without_the_packages(url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtra, match=rf"milvus-fghash\[{extra}\]"):
        read("folder", Url(url))


def test_a_protocol_that_needs_more_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(import_module("fsspec.registry")._registry, "s3", raising=False)
    for module in ("s3fs", "adlfs"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"milvus-fghash\[s3\]"):
        filesystem("s3://b/x")
    with pytest.raises(MissingExtra, match="adlfs"):
        filesystem("abfs://b/x")


@pytest.mark.parametrize("url", ["nosuch://b/x", "s3s://b/x"])
def test_no_such_protocol(url: str) -> None:
    with pytest.raises(DataError, match=r"expected s3://, gs://, https:// or another"):
        read("folder", Url(url))


def test_layouts_that_are_read_here_only() -> None:
    with pytest.raises(DataError, match="cub is read from a local folder only; from a URL: folder, archive, table"):
        read("cub", Url("s3://b/x"))


def test_urls_in_a_list_are_not_judged_as_paths(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path\nhttp://host/jay/../a.jpg\nb.jpg\n")
    dataset = read("table", tmp_path / "list.csv")
    dataset.check_paths()
    assert why_not_storable(dataset, 0, {}) is None
    assert dataset.source(1) == tmp_path / "b.jpg"
