"""Shards into a real Milvus server by its own import, as commands and with answers that are lost."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from pymilvus import MilvusClient

import milvus_fghash as fg
from integration_tests.losing_proxy import losing_proxy
from milvus_fghash.bulk_import import run as importing
from milvus_fghash.bulk_import.api import import_jobs
from milvus_fghash.bulk_import.jobs.grpc import GrpcJobs
from milvus_fghash.bulk_import.jobs.job import Jobs
from milvus_fghash.bulk_import.run import ImportOptions, ImportRun
from milvus_fghash.bulk_import.shards.folder import ShardFolder
from milvus_fghash.bulk_import.upload import in_place
from milvus_fghash.cli import main
from milvus_fghash.datasets.synthetic.drawings import draw_birds
from milvus_fghash.errors import StoreError
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect, probe
from milvus_fghash.search.search import SearchParams, search_codes
from tests.helpers.commands import GOLDEN, document


def command(folder: Path, *words: str, env: dict[str, str]) -> Result:
    with contextlib.chdir(folder):
        return CliRunner().invoke(main, words, env=env)


@pytest.fixture(autouse=True)
def frequent_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Milvus is asked more often how far an import is; else each waits some seconds after its end."""
    monkeypatch.setattr(importing, "MAX_POLL_SECONDS", 0.4)


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 birds, in four shards."""
    folder = tmp_path_factory.mktemp("road")
    draw_birds(folder / "birds", classes=4, train_per_class=6, test_per_class=3, size=64, seed=1)
    words = ("shards", "build", str(GOLDEN), "birds", "--out", "shards", "--shard-rows", "10", "--json")
    assert document(command(folder, *words, env={}))["made"] == 4
    return folder


@pytest.fixture
def milvus(server_uri: str) -> dict[str, str]:
    token = os.environ.get("MILVUS_TEST_TOKEN")
    return {"MILVUS_URI": server_uri, **({"MILVUS_TOKEN": token} if token else {})}


@pytest.fixture
def collection(server: MilvusClient, new_name: str, road: Path) -> Iterator[HashCollection]:
    manifest = ShardFolder(road / "shards").manifest()
    assert manifest
    yield HashCollection.create(server, new_name, manifest.model)
    server.drop_collection(new_name)


def test_shards_go_in_once_and_are_found(
    road: Path, milvus: dict[str, str], server: MilvusClient, new_name: str
) -> None:
    words = ("shards", "import", "shards", "--consistency", "Strong", "--collection-name", new_name, "--json")
    first = document(command(road, *words, env=milvus))
    assert (first["shards"], first["imported"], first["compared"], first["rows_in_collection"]) == (4, 4, 36, 36)
    assert server.describe_collection(new_name)["consistency_level"] == 0  # Strong
    again = document(command(road, *words, env=milvus))
    assert (again["imported"], again["rows_in_collection"]) == (0, 36)
    (answer,) = document(command(
        road, "search", str(GOLDEN), "--image", str(min((road / "birds/test").glob("*/*.jpg"))), "-k", "36",
        "--collection-name", new_name, "--json", env=milvus,
    ))  # fmt: skip
    assert len(answer["hits"]) == 36
    verified = document(command(
        road, "verify", str(GOLDEN), "birds", "--collection-name", new_name, "--json", env=milvus
    ))  # fmt: skip
    assert (verified["consistent"], verified["rows"], verified["unacknowledged"]) == (True, 36, 36)
    server.drop_collection(new_name)


BRANDS = ("acme", 'bolt "n" nut', "Ärger", "")
TYPED = ("--column", "price:double", "--column", "stock:int64", "--column", "sold:bool", "--column", "brand")

NAMES = ("price", "stock", "sold", "brand")
ExtraColumns = tuple[float, int, bool, str]


def has(name: str, value: object) -> Callable[[ExtraColumns], bool]:
    return lambda cells: cells[NAMES.index(name)] == value


FILTERS: dict[str, Callable[[ExtraColumns], bool]] = {
    **{f"brand == {json.dumps(brand, ensure_ascii=False)}": has("brand", brand) for brand in BRANDS},
    **{f"stock == {stock}": has("stock", stock) for stock in (-2, -1, 1, 2, 2**63 - 1)},
    'price < 5 and sold == true and brand in ["acme", "Ärger"]': lambda cells: (
        cells[0] < 5 and cells[2] and cells[3] in ("acme", "Ärger")
    ),
}


@pytest.mark.parametrize("key", ["brand", pytest.param("stock", marks=pytest.mark.slow)])
def test_typed_columns_are_found_by_after_the_import(
    road: Path, milvus: dict[str, str], server: MilvusClient, new_name: str, key: str
) -> None:
    """Each value of the partition key too: rows that Milvus had put elsewhere would not be found by it."""
    cells: dict[str, ExtraColumns] = {
        file.relative_to(road).as_posix(): (row / 4, row % 5 - 2 or 2**63 - 1, row % 3 == 0, BRANDS[row % 4])
        for row, file in enumerate(sorted((road / "birds").rglob("*.jpg")))
    }
    with open(road / "catalog.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["path", "price", "stock", "sold", "brand"], *([path, *cells[path]] for path in cells)]
        )
    shards, asked = f"shards by {key}", ("--partition-key", key)
    words = ("shards", "build", str(GOLDEN), "catalog.csv", "--out", shards, *TYPED, *asked, "--json")
    assert document(command(road, *words, env={}))["rows"] == 36
    name = ("--collection-name", new_name, "--json")
    try:
        assert document(command(road, "shards", "import", shards, *name, env=milvus))["compared"] == 36
        made = HashCollection.open(server, new_name)
        assert made.partition_key == key
        codes = next(made.scan()).codes[:1]
        for filter, fits in FILTERS.items():
            (found,) = search_codes(made, codes, SearchParams(k=36, filter=filter, consistency="Strong"))
            assert {hit.path: tuple(hit.columns[name] for name in NAMES) for hit in found.hits} == {
                path: values for path, values in cells.items() if fits(values)
            }, filter
        assert document(command(road, "verify", str(GOLDEN), "catalog.csv", *name, env=milvus))["consistent"]
        done = command(road, "shards", "import", "shards", *name, env=milvus)
        assert (done.exit_code, "was not made for these shards" in done.stderr) == (1, True)
    finally:
        server.drop_collection(new_name)


@pytest.mark.parametrize("by", ["shards import", "ingest"])
def test_rows_go_into_the_database_that_was_named(
    road: Path, milvus: dict[str, str], server: MilvusClient, server_target: ConnectionConfig, new_name: str, by: str
) -> None:
    if not probe(server).databases:
        pytest.skip("this server has no databases")
    server.create_database(new_name)
    words = ("shards",) if by == "shards import" else (str(GOLDEN), "birds")
    try:
        with closing(connect(replace(server_target, db_name=new_name))) as inside:
            done = command(road, *by.split(), *words, "--collection-name", "photos", "--db-name", new_name, env=milvus)
            assert done.exit_code == 0, done.stderr
            assert not server.has_collection("photos")
            assert HashCollection.open(inside, "photos").count() == 36
            inside.drop_collection("photos")
    finally:
        server.drop_database(new_name)


def test_the_example_of_the_page_runs(
    road: Path, server: MilvusClient, server_uri: str, new_name: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    page = (Path(__file__).parent.parent / "docs" / "python-api.md").read_text(encoding="utf-8")
    (example,) = [one for one in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "fg.import_shards(" in one]
    here = example.replace("http://localhost:19530", server_uri).replace('"photos"', repr(new_name))
    monkeypatch.chdir(road)
    token = os.environ.get("MILVUS_TEST_TOKEN")
    if token:
        here = here.replace(", options=", f", token={token!r}, options=")
    exec(compile(here, "docs/python-api.md", "exec"), {})
    assert capsys.readouterr().out == f"{new_name} 4 36\n"
    counted: list[tuple[int, int]] = []
    again = fg.import_shards(
        "shards",
        fg.ConnectionConfig(server_uri, token),
        collection=new_name,
        index="BIN_FLAT",
        progress=lambda *done: counted.append(done),
    )
    assert (again.imported, again.rows_in_collection) == (0, 36)
    assert (0, 4) in counted
    with pytest.raises(fg.ConfigError, match="it has the index BIN_FLAT, not BIN_IVF_FLAT"):
        fg.import_shards("shards", fg.ConnectionConfig(server_uri, token), collection=new_name, index="BIN_IVF_FLAT")
    stop = threading.Event()
    stop.set()
    with pytest.raises(fg.Stopped, match="nothing was sent"):
        fg.import_shards("shards", fg.ConnectionConfig(server_uri, token), collection=new_name, stop=stop)
    server.drop_collection(new_name)


def an_import(road: Path, collection: HashCollection, jobs: Jobs, place: Callable[[Path], str] = in_place) -> ImportRun:
    folder, callbacks = ShardFolder(road / "shards"), (threading.Event(), print, lambda done, total: None)
    return ImportRun(folder, folder.check_all(), collection, jobs, place, ImportOptions(), *callbacks)


def test_lost_answers_and_failures_leave_each_row_once(
    road: Path, collection: HashCollection, server_target: ConnectionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the client and the server stands a proxy that lets requests through and keeps answers back."""
    parts = urlsplit(server_target.uri)
    if probe(collection.client).bulk_import != "grpc":
        pytest.skip("this server imports by REST, which tests/bulk covers")
    monkeypatch.setattr(importing, "LOST_ANSWER_SECONDS", 3.0)
    with (
        losing_proxy(str(parts.hostname), int(parts.port or 0)) as (proxy, uri),
        closing(connect(ConnectionConfig(uri, server_target.token))) as client,
    ):

        class Losing(GrpcJobs):
            def create(self, file: str, key: str) -> str | None:
                if "shard-00003" in file:
                    proxy.lose(1.0)
                return super().create(file, key)

        def place(path: Path) -> str:
            return f"/nowhere/{path.name}" if "shard-00001" in path.name else in_place(path)

        either = "there may be a job or none|1 of 4 shards could not be imported.*shard-00001.*no such file"
        with pytest.raises(StoreError, match=either):
            an_import(road, collection, Losing(client, collection.name), place).result()
        assert proxy.lost
    result = an_import(road, collection, import_jobs(server_target, collection.client, collection.name)).result()
    assert (result.rows, result.rows_in_collection) == (36, 36)


def test_rows_that_are_there_are_not_imported_again(
    road: Path, milvus: dict[str, str], server: MilvusClient, new_name: str
) -> None:
    name = ("--collection-name", new_name)
    assert command(road, "ingest", str(GOLDEN), "birds", "--split", "test", *name, env=milvus).exit_code == 0
    done = command(road, "shards", "import", "shards", *name, env=milvus)
    assert done.exit_code == 1
    assert "already, and Milvus would import them a second time; nothing was sent" in done.stderr
    assert HashCollection.open(server, new_name).count() == 12
    server.drop_collection(new_name)
