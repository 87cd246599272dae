"""Photos in a bucket, behind a web server and in an archive, into a real Milvus; a second run reads what changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from milvus_fghash.cli import main
from milvus_fghash.milvus.rows import photo_id
from tests.helpers.archives import tar_of
from tests.helpers.http_server import Site, serving
from tests.helpers.image_bytes import encode
from tests.helpers.s3_server import Store, storing

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "bundle-v1"
N = 12


def photo(number: int) -> bytes:
    return encode(Image.new("RGB", (20, 20), (number * 20, 255 - number * 20, number)))


BIRDS = {f"{'jay' if number % 2 else 'wren'}/{number:02}.png": photo(number) for number in range(N)}


@dataclass
class Elsewhere:
    """Photos that a command reads from ``data``.

    Attributes:
        put: replaces all of them.
        reads: requests for contents since the last call.
        known: whether anybody tells a version of each photo.
    """

    data: str
    put: Callable[[dict[str, bytes]], None]
    reads: Callable[[], int]
    known: bool = True


def in_bucket(store: Store, name: str) -> Elsewhere:
    def put(birds: dict[str, bytes]) -> None:
        for path, raw in birds.items():
            store.fs.pipe_file(f"{name}/birds/{path}", raw)
        store.asked.clear()

    store.fs.mkdir(name)
    return Elsewhere(f"s3://{name}/birds", put, lambda: len(store.gets()))


def in_list(site: Site, *, known: bool) -> Elsewhere:
    def put(birds: dict[str, bytes]) -> None:
        lines = [f"{path},{path.partition('/')[0]}" for path in birds]
        site.files = {"/list.csv": "\n".join(["path,label", *lines]).encode()}
        site.files |= {f"/{path}": raw for path, raw in birds.items()}

    site.etags = known
    reads = lambda: sum(path != "/list.csv" for path in site.gets())  # noqa: E731
    return Elsewhere(f"{site.url}/list.csv?signature=SECRET", put, reads, known)


def in_tar(site: Site) -> Elsewhere:
    def put(birds: dict[str, bytes]) -> None:
        site.files["/birds.tar"] = tar_of(birds)

    return Elsewhere(f"{site.url}/birds.tar".replace("://", "://me:SECRET@"), put, lambda: len(site.gets()))


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with storing() as store:
        yield store


@pytest.fixture(params=["bucket", "list", "list without versions", "tar"])
def elsewhere(request: pytest.FixtureRequest, store: Store, new_name: str) -> Iterator[Elsewhere]:
    with serving() as site:
        match request.param:
            case "bucket":
                yield in_bucket(store, new_name.replace("_", "-"))
            case "tar":
                yield in_tar(site)
            case kind:
                yield in_list(site, known=kind == "list")


@pytest.fixture
def run(server_uri: str, store: Store, new_name: str, tmp_path: Path) -> Callable[..., Any]:
    """A command on a collection of its own; the document it prints."""
    environment = {
        "MILVUS_URI": server_uri,
        "AWS_ENDPOINT_URL": store.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    if token := os.environ.get("MILVUS_TEST_TOKEN"):
        environment["MILVUS_TOKEN"] = token

    def invoke(*words: str, exit_code: int = 0) -> Any:
        options = ("--collection-name", new_name, *(("--journal", str(tmp_path)) if words[0] != "search" else ()))
        result = CliRunner().invoke(main, [*words, *options, "--json"], env=environment)
        assert result.exit_code == exit_code, result.stderr or result.exception
        return json.loads(result.stdout)

    return invoke


def test_a_second_run_reads_what_has_changed(elsewhere: Elsewhere, run: Callable[..., Any], tmp_path: Path) -> None:
    words = ("ingest", str(GOLDEN), elsewhere.data, "--workers", "1", "--consistency", "Strong")

    def counts() -> tuple[int, ...]:
        result = run(*words)
        return tuple(result[name] for name in ("stored", "unchanged", "rejected", "vanished", "rows_in_collection"))

    elsewhere.put(BIRDS)
    assert counts() == (N, 0, 0, 0, N)
    assert elsewhere.reads() >= N
    assert counts() == (0, N, 0, 0, N)
    assert elsewhere.reads() == (0 if elsewhere.known else N)
    changed = {**BIRDS, "jay/01.png": photo(12)}
    elsewhere.put(changed)
    assert counts() == (1, N - 1, 0, 0, N)
    reads = elsewhere.reads()
    assert reads == 1 or (reads >= N and (not elsewhere.known or elsewhere.data.endswith("tar")))
    found = run("verify", str(GOLDEN), elsewhere.data)
    assert (found["consistent"], found["sampled"], found["new_or_changed"]) == (True, N, 0 if elsewhere.known else N)
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"SECRET" not in kept


def test_rows_are_those_of_the_folder(run: Callable[..., Any], tmp_path: Path) -> None:
    """Ids and labels do not tell whether photos were in an archive."""
    (tmp_path / "birds.tar").write_bytes(tar_of(BIRDS))
    for path, raw in BIRDS.items():
        (tmp_path / "birds" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "birds" / path).write_bytes(raw)
    run("ingest", str(GOLDEN), str(tmp_path / "birds.tar"), "--consistency", "Strong")
    result = run("ingest", str(GOLDEN), str(tmp_path / "birds"), "--consistency", "Strong")
    assert (result["rows_in_collection"], result["vanished"]) == (N, 0)
    (answer,) = run("search", "--id", photo_id("", "jay/01.png"), "-k", str(N))
    assert {hit["path"]: hit["label"] for hit in answer["hits"]} == {path: path.partition("/")[0] for path in BIRDS}


def test_a_photo_that_could_not_be_reached_is_tried_again(run: Callable[..., Any], tmp_path: Path) -> None:
    with serving() as site:
        source = in_list(site, known=True)
        source.put(BIRDS)
        site.status, site.once = {"/jay/03.png": 404}, {"/jay/01.png": 403}
        words = ("ingest", str(GOLDEN), source.data, "--workers", "1", "--report", str(tmp_path / "report.jsonl"))
        result = run(*words, exit_code=3)
        assert result["reasons"] == {"missing": 1, "unreachable": 1}
        report = (tmp_path / "report.jsonl").read_text()
        assert "SECRET" not in report
        assert report.count("\n") == 2
        site.status = {}
        source.reads()
        result = run(*words)
        assert (result["stored"], result["rejected"], source.reads()) == (2, 0, 2)


def test_search_by_a_photo_at_a_url(run: Callable[..., Any]) -> None:
    with serving() as site:
        source = in_list(site, known=True)
        source.put(BIRDS)
        run("ingest", str(GOLDEN), source.data, "--consistency", "Strong")
        (answer,) = run("search", str(GOLDEN), "--image", f"{site.url}/jay/05.png?signature=SECRET")
        assert "jay/05.png" in [hit["path"] for hit in answer["hits"] if hit["distance"] == 0]
        assert "SECRET" not in json.dumps(answer)


def test_a_list_of_urls_and_files_has_typed_columns(run: Callable[..., Any], tmp_path: Path) -> None:
    with serving() as site:
        site.files = {f"/{path}": raw for path, raw in BIRDS.items()}
        (tmp_path / "here.png").write_bytes(photo(12))
        (tmp_path / "out.png").symlink_to("/etc/passwd")
        names = ["here.png", "out.png", *(f"{site.url}/{path}?signature=SECRET" for path in BIRDS)]
        lines = [f"{name},{number}" for number, name in enumerate(names)]
        (tmp_path / "list.csv").write_text("\n".join(["path,price", *lines]))
        options = ("--column", "price:int64", "--consistency", "Strong", "--max-errors", "1")
        words = ("ingest", str(GOLDEN), str(tmp_path / "list.csv"), *options)
        result = run(*words)
        assert (result["stored"], result["reasons"]) == (N + 1, {"outside": 1})
        result = run(*words)
        assert (result["stored"], result["unchanged"]) == (0, N + 1)
        (answer,) = run("search", "--id", photo_id("", "here.png"), "-k", "9", "--filter", "price >= 2 and price < 5")
        assert {hit["columns"]["price"] for hit in answer["hits"]} == {2, 3, 4}
        (tmp_path / "list.csv").write_text("\n".join(["path,price", *lines[:-1], f"{names[-1]},99"]))
        assert run(*words)["stored"] == 1
