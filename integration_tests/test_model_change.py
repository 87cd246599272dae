"""A model change on a real server, with searches that go on all the time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pymilvus import MilvusClient

from integration_tests.random_rows import random_rows
from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.datasets.read import read
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import Inconsistent, StoreError
from milvus_fghash.ingest.api import ingest
from milvus_fghash.migration.promote import AliasChange, candidate, drop_older, promote, rollback
from milvus_fghash.milvus import aliases
from milvus_fghash.milvus.alias_history import AliasHistory
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.collections import list_collections
from milvus_fghash.milvus.connection import ConnectionConfig
from milvus_fghash.milvus.settings import open_or_create
from tests.helpers.small_bundle import write_small_bundle

ROUNDS = 4
PROGRAM = "from milvus_fghash.cli import main; main()"
KILLED = f"""
import os, signal, threading
from milvus_fghash.milvus.collection import HashCollection
write, calls, one_at_a_time = HashCollection.write, [], threading.Lock()
def killed_after(*args):
    with one_at_a_time:  # else the sixth batch may be in, too
        write(*args)
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
HashCollection.write = killed_after
{PROGRAM}
"""
"""The same, killed when Milvus has the fifth batch and the journal does not know of it."""
ROWS = 300
"""Of the first version; each later one has ten more."""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 and 2 have codes of 12 bits, 3 has 24."""
    folder = tmp_path_factory.mktemp("bundles")
    for seed, bits in ((1, 12), (2, 12), (3, 24)):
        write_small_bundle(folder / str(seed), bits, seed)
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (16, 16), "teal").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture(scope="module")
def versions(server: MilvusClient, bundles: Path) -> Iterator[list[str]]:
    """Three collections, filled by the three bundles."""
    names = [f"test_{uuid.uuid4().hex[:12]}" for _ in range(3)]
    for number, name in enumerate(names):
        filled(server, name, bundles / str(number + 1), ROWS + 10 * number)
    yield names
    for name in names:
        server.drop_collection(name)


@pytest.fixture
def alias(server: MilvusClient, new_name: str) -> Iterator[str]:
    """An alias; it goes away, and collections that are called like it and something more."""
    yield new_name
    for name in aliases.all_aliases(server):
        if name.startswith(new_name):
            aliases.remove(server, name)
    for name in server.list_collections():
        if name.startswith(new_name):
            server.drop_collection(name)


def filled(client: MilvusClient, name: str, bundle: Path, rows: int) -> str:
    manifest = read_bundle(bundle).manifest
    collection = HashCollection.create(client, name, manifest)
    collection.upsert(random_rows(rows, manifest.bits))
    assert collection.count() == rows
    return name


@contextmanager
def searching(uri: str, alias: str, bundles: Path, photo: Path, raw_bits: int, n: int = 2) -> Iterator[list[Any]]:
    """Processes that search; what they saw is given when the block ends."""
    words = [uri, alias, str(bundles), str(photo), str(raw_bits)]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "integration_tests.searching", *words], stdin=pipe, stdout=pipe, text=True
        )
        for _ in range(n)
    ]
    seen: list[Any] = []
    try:
        for one in running:
            assert one.stdout is not None
            assert one.stdout.readline() == "searching\n"
        yield seen
    finally:
        seen += [json.loads(one.communicate()[0]) for one in running]  # which closes their input


def counted(seen: Sequence[dict[str, dict[str, int]]]) -> dict[str, Counter[str]]:
    """Way -> rows seen -> how often, of all processes."""
    totals: dict[str, Counter[str]] = {}
    for one in seen:
        for way, counts in one.items():
            totals.setdefault(way, Counter()).update(counts)
    return totals


@pytest.mark.parametrize(("second", "raw_bits"), [(1, 12), (2, 0)], ids=["one length", "two lengths"])
def test_searches_go_on_through_promote_and_rollback(
    server: MilvusClient,
    server_target: ConnectionConfig,
    versions: list[str],
    alias: str,
    bundles: Path,
    photo: Path,
    tmp_path: Path,
    second: int,
    raw_bits: int,
) -> None:
    old, new, more = versions[0], versions[second], ROWS + 10 * second
    promote(server, alias, old, tmp_path.joinpath)
    with searching(server_target.uri, alias, bundles, photo, raw_bits) as seen:
        for _ in range(ROUNDS):
            moved = promote(server, alias, new, tmp_path.joinpath, unverified=True)
            assert (moved.before, moved.rows_before, moved.rows) == (old, ROWS, more)
            assert rollback(server, alias).collection == old
    for way, counts in counted(seen).items():
        assert set(counts) == {str(ROWS), str(more)}, way
        assert counts.total() >= 2 * ROUNDS, way


def test_searches_go_on_while_older_versions_are_dropped(
    server: MilvusClient, server_target: ConnectionConfig, alias: str, bundles: Path, photo: Path, tmp_path: Path
) -> None:
    names = [f"{alias}_{number}" for number in range(3)]
    promote(server, alias, filled(server, names[0], bundles / "1", ROWS), tmp_path.joinpath)
    with searching(server_target.uri, alias, bundles, photo, 12, n=1) as seen:
        for name, bundle, gone in ((names[1], "2", []), (names[2], "1", names[:1])):
            filled(server, name, bundles / bundle, ROWS)
            promote(server, alias, name, tmp_path.joinpath, unverified=True)
            assert drop_older(server, alias, 1, tmp_path.joinpath, yes=False) == gone
            assert drop_older(server, alias, 1, tmp_path.joinpath, yes=True) == gone
    assert AliasHistory.of(server, alias) == AliasHistory(alias, names[2], (names[1],))
    assert sorted(name for name in server.list_collections() if name.startswith(alias)) == names[1:]
    assert all(set(counts) == {str(ROWS)} for counts in counted(seen).values())


def test_what_lacks_rows_is_never_seen(
    server: MilvusClient,
    server_target: ConnectionConfig,
    versions: list[str],
    alias: str,
    bundles: Path,
    photo: Path,
    tmp_path: Path,
) -> None:
    old, new = versions[0], f"{alias}_new"
    promote(server, alias, old, tmp_path.joinpath)
    half = HashCollection.create(server, new, read_bundle(bundles / "2").manifest)
    with searching(server_target.uri, alias, bundles, photo, 12, n=1) as seen:
        for wanted in ("is empty", "was not verified", "1 rows of"):
            with pytest.raises(Inconsistent, match=wanted):
                promote(server, alias, new, tmp_path.joinpath, unverified=wanted.startswith("1"))
            half.upsert(random_rows(ROWS - 1, 12))
        half.upsert(random_rows(ROWS, 12))
        promote(server, alias, new, tmp_path.joinpath, unverified=True)
    assert all(set(counts) == {str(ROWS)} for counts in counted(seen).values())


def test_names_of_aliases_and_collections_are_told_apart(
    server: MilvusClient, versions: list[str], alias: str, bundles: Path, tmp_path: Path
) -> None:
    old, new, _ = versions
    manifest = read_bundle(bundles / "1").manifest
    with pytest.raises(StoreError, match=f"there is a collection named {old}"):
        promote(server, old, new, tmp_path.joinpath)
    promote(server, alias, old, tmp_path.joinpath)
    with pytest.raises(StoreError, match=f"the collection {alias} exists"):
        HashCollection.create(server, alias, manifest)
    assert open_or_create(server, alias, manifest).name == old
    with pytest.raises(StoreError, match=f"the alias {alias} refers to"):
        HashCollection.drop(server, old)
    with pytest.raises(StoreError, match="is an alias of"):
        HashCollection.drop(server, alias)
    assert [one.aliases for one in list_collections(server) if one.name == old] == [[alias]]


def test_a_killed_reindex_goes_on_and_is_not_served_before(
    server: MilvusClient, server_target: ConnectionConfig, alias: str, bundles: Path, tmp_path: Path
) -> None:
    old = f"{alias}_old"
    for number in range(100):
        folder = tmp_path / "photos" / f"class {number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 255 - number, 3 * number % 256)).save(folder / f"{number}.png")
    photos, milvus = str(tmp_path / "photos"), {"MILVUS_URI": server_target.uri}
    if server_target.token:
        milvus["MILVUS_TOKEN"] = server_target.token
    encoder = Encoder.open(bundles / "1")
    collection = HashCollection.create(server, old, encoder.bundle.manifest)
    assert ingest(encoder, read("folder", tmp_path / "photos"), collection).stored == 100
    promote(server, alias, old, tmp_path.joinpath)

    def run(program: str) -> subprocess.CompletedProcess[str]:
        words = ["reindex", str(bundles / "3"), photos, "--collection-name", alias, "--rows-per-write", "8", "--json"]
        command = [sys.executable, "-c", program, *words, "--journal", str(tmp_path / "journal")]
        return subprocess.run(command, env={**os.environ, **milvus}, capture_output=True, text=True, check=False)

    def move(**more: Any) -> AliasChange:
        return promote(server, alias, candidate(server, alias), lambda name: tmp_path / "journal", **more)

    assert run(KILLED).returncode == -signal.SIGKILL
    half = HashCollection.open(server, candidate(server, alias))
    assert half.count() == 40
    with pytest.raises(Inconsistent, match="was not verified"):
        move()
    with pytest.raises(Inconsistent, match="60 rows of"):
        move(unverified=True)
    assert HashCollection.open(server, alias).name == old
    done = json.loads(run(PROGRAM).stdout)
    assert (done["consistent"], done["missing"]["count"], done["comparison"]["photos"]) == (True, 0, 100)
    assert done["ingest"]["unchanged"] == 32, "the batch that the journal does not know of is encoded twice"
    assert done["next"] == f"milvus-fghash promote {alias} {half.name}"
    assert move().collection == half.name
    assert rollback(server, alias).collection == old
