"""--prune deletes no row of a folder or an archive of which nobody can tell what is in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import Result

from milvus_fghash.bulk_import.shards.builder import ShardOptions, build_shards
from milvus_fghash.bulk_import.shards.folder import ShardFolder
from milvus_fghash.datasets.read import Url, read
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import DataError
from tests.helpers.archives import tar_of
from tests.helpers.commands import GOLDEN, Run
from tests.helpers.http_pages import LOGIN, NGINX, SIGN_IN, SSO
from tests.helpers.http_server import Site
from tests.helpers.image_bytes import grey

pytestmark = pytest.mark.full

CLASSES = {"jay": range(5), "wren": range(5, 20)}


def index(names: Sequence[str]) -> bytes:
    return NGINX.format("\n".join(f'<a href="{name}">{name}</a>' for name in names)).encode()


def fill(site: Site) -> None:
    """20 photos in two folders."""
    site.status, site.moved = {}, {}
    site.files = {f"/birds/{name}/{n}.png": grey(12 * n) for name, numbers in CLASSES.items() for n in numbers}
    site.files["/birds/"] = index([f"{name}/" for name in CLASSES])
    site.files |= {f"/birds/{name}/": index([f"{n}.png" for n in numbers]) for name, numbers in CLASSES.items()}


def counts(result: Result) -> tuple[int, int, int]:
    outcome = json.loads(result.stdout)
    return outcome["vanished"], outcome["pruned"], outcome["rows_in_collection"]


def test_a_folder_that_is_silent_or_elsewhere_keeps_its_rows(site: Site, run: Run) -> None:
    fill(site)
    words = ("ingest", GOLDEN, f"{site.url}/birds", "--prune", "--prune-at-most", "1", "--workers", "0", "--json")
    assert counts(run(*words)) == (0, 0, 20)
    faults = {"empty": b"", "login": LOGIN.encode(), "no photos": index(["readme.txt"]), "no links": index([])}
    for fault, page in faults.items():
        site.files["/birds/jay/"] = page
        result = run(*words)
        assert counts(result) == (0, 0, 20), fault
        assert (
            "5 photos of earlier runs may have vanished: jay could not be listed, or returned nothing" in result.stderr
        )
        assert result.exit_code == (3 if fault in ("empty", "login") else 0)
    for fault in ("moved", "broken"):
        fill(site)
        site.moved, site.status = ({"/birds/jay/": "/login"}, {}) if fault == "moved" else ({}, {"/birds/jay/": 403})
        if fault == "moved":
            del site.files["/birds/jay/"]
            site.files["/login"] = LOGIN.encode()
        assert counts(run(*words)) == (0, 0, 20), fault
    site.files["/birds/wren/"] = index([f"{n}.png" for n in range(7, 20)])  # others go all the same
    assert counts(run(*words)) == (2, 2, 18)
    fill(site)
    assert counts(run(*words)) == (0, 0, 20)
    site.files["/birds/"] = index(["wren/"])  # a folder that nobody links any more is gone
    assert counts(run(*words)) == (5, 5, 15)


HELP = "<title>Help</title><p>Ask us."
DOUBTFUL: dict[str, dict[str, bytes]] = {
    "a form": {"": SIGN_IN.encode(), "help/": HELP.encode()},
    "nothing to write in, all behind its links missing": {"": SSO.encode()},
    "another page behind its link": {"": SSO.encode(), "help/": HELP.encode()},
    "a silent folder behind its link": {"": SSO.encode(), "help/": index([])},
    "a folder of no picture behind its link": {
        "": SSO.encode(), "help/": index(["a.jpg", "more/"]), "help/a.jpg": b"<p>", "help/more/": index(["b.jpg"]),
    },
}  # fmt: skip


def test_a_page_whose_links_lead_to_no_photo_is_not_trusted(site: Site, run: Run) -> None:
    fill(site)
    words = ("ingest", GOLDEN, f"{site.url}/birds", "--prune", "--prune-at-most", "1", "--workers", "0", "--json")
    assert counts(run(*words)) == (0, 0, 20)
    for n in range(5):
        del site.files[f"/birds/jay/{n}.png"]
    for fault, pages in DOUBTFUL.items():
        site.files |= {f"/birds/jay/{path}": page for path, page in pages.items()}
        result = run(*words)
        assert counts(result) == (0, 0, 20), fault
        assert "5 photos of earlier runs may have vanished: jay could not be listed" in result.stderr, fault
    site.files["/birds/wren/"] = index([f"{n}.png" for n in range(6, 20)])
    assert counts(run(*words)) == (1, 1, 19), "what was rejected before says nothing; others go all the same"
    root, site.files["/birds/"] = site.files["/birds/"], SSO.replace("help/", "no/").encode()
    result = run(*words)
    assert counts(result) == (0, 0, 19)
    assert f"19 photos of earlier runs may have vanished: {site.url}/birds could not be listed" in result.stderr
    site.files |= {"/birds/": root, "/birds/jay/": index(["new.png", "1.png"]), "/birds/jay/new.png": grey(250)}
    assert counts(run(*words, "--exclude", "wren/*.png")) == (18, 18, 2), "a listing again, and one that is left out"


def test_archives_behind_a_page_that_is_none_keep_their_rows(site: Site, run: Run) -> None:
    site.files = {f"/all/{name}/a.tar": tar_of({f"{n}.png": grey(12 * n) for n in CLASSES[name]}) for name in CLASSES}
    site.files |= {f"/all/{name}/": index(["a.tar"]) for name in CLASSES}
    site.files["/all/"] = index([f"{name}/" for name in CLASSES])
    options = ("--prune", "--prune-at-most", "1", "--workers", "0", "--json")
    words = ("ingest", GOLDEN, f"{site.url}/all", "--layout", "archive", *options)
    assert counts(run(*words)) == (0, 0, 20)
    site.files["/all/jay/"] = SSO.replace("logo.jpg", "logo.zip").encode()
    result = run(*words)
    assert counts(result) == (0, 0, 20)
    assert "5 photos of earlier runs may have vanished: jay could not be listed" in result.stderr


def test_the_whole_folder_elsewhere_ends_the_run(site: Site, run: Run) -> None:
    fill(site)
    words = ("ingest", GOLDEN, f"{site.url}/birds", "--prune", "--prune-at-most", "1", "--workers", "0", "--json")
    assert counts(run(*words)) == (0, 0, 20)
    for page in (b"", LOGIN.encode(), index([])):
        site.files["/birds/"] = page
        result = run(*words)
        assert (result.exit_code, result.stdout) == (1, "")
    site.url = "http://127.0.0.1:9"
    result = run("ingest", GOLDEN, f"{site.url}/birds", "--prune")
    assert "Cannot connect to host" in result.stderr
    assert "no photos found" not in result.stderr
    listed = json.loads(run("collections", "list", "--json").stdout)
    assert [one["rows"] for one in listed] == [20]


def test_an_archive_that_cannot_be_read_keeps_its_rows(tmp_path: Path, run: Run) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    raws = {}
    for name, numbers in CLASSES.items():
        raws[name] = tar_of({f"{name}/{n}.png": grey(12 * n) for n in numbers})
        (shards / f"{name}.tar").write_bytes(raws[name])
    words = ("ingest", GOLDEN, shards, "--prune", "--prune-at-most", "1", "--workers", "0", "--json")
    assert counts(run(*words)) == (0, 0, 20)
    for fault in (b"", b"<html>log in</html>" * 100, raws["jay"][:1500]):
        (shards / "jay.tar").write_bytes(fault)
        result = run(*words)
        assert result.exit_code == 3
        assert counts(result) == (0, 0, 20)
        assert "jay.tar could not be listed" in result.stderr
    (shards / "jay.tar").write_bytes(tar_of({"jay/1.png": grey(12)}))
    assert counts(run(*words)) == (4, 4, 16)


def test_shards_are_not_pruned_either(site: Site, tmp_path: Path) -> None:
    fill(site)
    encoder, folder = Encoder.open(GOLDEN), ShardFolder(tmp_path / "shards")
    options = ShardOptions(shard_rows=5, prune=True, workers=0)
    url = Url(f"{site.url}/birds")
    assert build_shards(encoder, read("folder", url), folder, options=options).shards == 4
    for page in (b"", b'<a href="logo.jpg">'):
        site.files["/birds/jay/"] = page
        with pytest.raises(DataError, match=r"shards are outdated, and none was pruned .*: jay could not be listed"):
            build_shards(encoder, read("folder", url), folder, options=options)
    fill(site)
    result = build_shards(encoder, read("folder", url), folder, options=options)
    assert (result.made, result.rows) == (0, 20)
    assert result.pruned == result.outdated > 0
