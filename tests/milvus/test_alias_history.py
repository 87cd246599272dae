"""Aliases and their history on Milvus Lite, also after a crash in the middle of a change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.core.codes import code_bytes
from milvus_fghash.errors import ConfigError, Inconsistent, StoreError
from milvus_fghash.ingest.delete import drop_with_journal
from milvus_fghash.migration.promote import candidate, drop_older, promote, rollback
from milvus_fghash.milvus import alias_history as versions
from milvus_fghash.milvus import aliases, lite_aliases
from milvus_fghash.milvus.alias_history import AliasHistory
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.collections import list_collections
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from milvus_fghash.milvus.settings import open_or_create
from milvus_fghash.search.search import SearchParams, search_hex
from milvus_fghash.state.journal import Journal
from tests.helpers.small_bundle import write_small_bundle
from tests.helpers.small_rows import rows_of

pytestmark = pytest.mark.full


@pytest.fixture
def alias(lite: MilvusClient, new_name: str) -> Iterator[str]:
    """A name for an alias, alone in the table of aliases."""
    yield new_name
    lite_aliases.write(lite, {})


def make(lite: MilvusClient, bundle: Path, *names: str) -> list[str]:
    """Empty collections."""
    return [HashCollection.create(lite, name, read_bundle(bundle).manifest).name for name in names]


def advanced(lite: MilvusClient, alias: str, *names: str) -> AliasHistory:
    for name in names:
        versions.advance(lite, alias, name)
    return AliasHistory.of(lite, alias)


def test_an_alias_moves_and_knows_where_it_was(lite: MilvusClient, alias: str) -> None:
    assert AliasHistory.of(lite, alias) == AliasHistory(alias, None, ())
    assert advanced(lite, alias, "a", "b", "c") == AliasHistory(alias, "c", ("b", "a"))
    assert aliases.all_aliases(lite) == {alias: "c", f"{alias}_previous_1": "b", f"{alias}_previous_2": "a"}
    assert advanced(lite, alias, "a") == AliasHistory(alias, "a", ("c", "b"))
    back = versions.roll_back(lite, AliasHistory.of(lite, alias))
    assert back == AliasHistory(alias, "c", ("b",))
    versions.forget(lite, "b")
    assert aliases.all_aliases(lite) == {alias: "c"}


def test_versions_are_in_order_beyond_nine(lite: MilvusClient, alias: str) -> None:
    names = [f"v{number}" for number in range(13)]  # with 12 before, 10 and more are numbers of two digits
    assert advanced(lite, alias, *names).previous == tuple(reversed(names[:-1]))


def test_an_alias_of_another_name_is_not_mixed_up(lite: MilvusClient, alias: str) -> None:
    advanced(lite, f"{alias}_previous_1_x", "other", "another")
    assert advanced(lite, alias, "a", "b") == AliasHistory(alias, "b", ("a",))


@pytest.mark.parametrize("moves", range(5))
@pytest.mark.parametrize("step", ["advance", "back"])
def test_a_crash_in_the_middle_loses_no_version(
    lite: MilvusClient, alias: str, moves: int, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = advanced(lite, alias, "a", "b", "c", "d")
    point = aliases.point
    done: list[None] = []

    def killed(*args: Any) -> None:
        if len(done) == moves:
            raise KeyboardInterrupt
        point(*args)
        done.append(None)

    def move() -> AliasHistory:
        return versions.advance(lite, alias, "e") if step == "advance" else versions.roll_back(lite, now)

    with monkeypatch.context() as patched:
        patched.setattr(aliases, "point", killed)
        with suppress(KeyboardInterrupt):  # or it needs fewer moves
            move()
    after = AliasHistory.of(lite, alias)
    if after.current == "d":
        assert after == now, "nothing has happened for those who search"
        after = move()
    wanted = ("e", "d", "c", "b", "a") if step == "advance" else ("c", "b", "a")
    assert after == AliasHistory(alias, wanted[0], wanted[1:])


def test_the_table_of_aliases_survives_the_process(tmp_path: Path) -> None:
    from milvus_lite.server_manager import server_manager_instance

    file = str(tmp_path / "test.db")
    for known in ({}, {"a": "b"}, {"a": "c", "d": "e"}):
        client = connect(ConnectionConfig(file))
        assert lite_aliases.read(client) == known
        lite_aliases.write(client, {"a": "b"} if not known else {"a": "c", "d": "e"})
        client.close()
        server_manager_instance.release_server(file)


def test_half_of_a_change_of_the_table_is_none_or_all(lite: MilvusClient, alias: str) -> None:
    aliases.point(lite, alias, "a")
    number, _ = lite_aliases._newest(lite)
    lite.insert(lite_aliases.COLLECTION, {"number": number + 1, "aliases": {alias: "b"}, "unused": b"\0"})
    assert aliases.resolve(lite, alias) == "b"  # killed before the old table was deleted
    aliases.point(lite, alias, "c")
    assert lite_aliases.read(lite) == {alias: "c"}


def test_collections_go_by_their_aliases(lite: MilvusClient, bundle: Path, alias: str, tmp_path: Path) -> None:
    old, new = make(lite, bundle, f"{alias}_1", f"{alias}_2")
    advanced(lite, alias, old, new)
    assert HashCollection.open(lite, alias).name == new
    assert open_or_create(lite, alias, read_bundle(bundle).manifest).name == new
    assert HashCollection.open(lite, f"{alias}_previous_1").name == old
    of = {one.name: one.aliases for one in list_collections(lite)}
    assert (of[new], of[old]) == ([alias], [f"{alias}_previous_1"])
    assert lite_aliases.COLLECTION not in of
    with pytest.raises(StoreError, match=f"the collection {alias} exists"):
        HashCollection.create(lite, alias, read_bundle(bundle).manifest)
    with pytest.raises(StoreError, match=f"there is a collection named {old}"):
        aliases.point(lite, old, new)
    for name, message in ((alias, "is an alias of"), (new, f"the alias {alias} refers to the collection {new}")):
        with pytest.raises(StoreError, match=message):
            drop_with_journal(lite, name, tmp_path)
    drop_with_journal(lite, old, tmp_path)
    assert aliases.all_aliases(lite) == {alias: new}


def test_promote_says_what_is_wrong(lite: MilvusClient, bundle: Path, alias: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"reindex created no collection for {alias}"):
        candidate(lite, alias)
    names = make(lite, bundle, f"{alias}_{'0' * 12}", f"{alias}_{'1' * 12}", f"{alias}_0")
    with pytest.raises(ConfigError, match="reindex created 2 collections for"):
        candidate(lite, alias)
    advanced(lite, alias, names[0])
    assert candidate(lite, alias) == names[1]
    with pytest.raises(Inconsistent, match="is empty; fill it first"):
        promote(lite, alias, names[1], tmp_path.joinpath)
    with pytest.raises(StoreError, match="there is no collection nobody"):
        promote(lite, alias, "nobody", tmp_path.joinpath)
    with pytest.raises(ConfigError, match="invalid collection name"):
        promote(lite, "no-name", names[1], tmp_path.joinpath)
    with pytest.raises(StoreError, match="has no previous collection"):
        rollback(lite, alias)
    with pytest.raises(StoreError, match="there is no alias nobody"):
        rollback(lite, "nobody")
    advanced(lite, alias, names[1])
    with pytest.raises(Inconsistent, match=r"the previous collection of .* is empty"):
        rollback(lite, alias)
    assert AliasHistory.of(lite, alias) == AliasHistory(alias, names[1], (names[0],))


def test_previous_collections_are_dropped_on_request(
    lite: MilvusClient, bundle: Path, alias: str, tmp_path: Path
) -> None:
    names = make(lite, bundle, *(f"{alias}_{number}" for number in range(4)))
    advanced(lite, alias, *names)
    journal = Journal.open(tmp_path / names[0], HashCollection.open(lite, names[0]).uid)
    journal.close()
    assert drop_older(lite, alias, 1, tmp_path.joinpath, yes=False) == [names[1], names[0]]
    assert len(AliasHistory.of(lite, alias).previous) == 3
    assert drop_older(lite, alias, 1, tmp_path.joinpath, yes=True) == [names[1], names[0]]
    assert AliasHistory.of(lite, alias) == AliasHistory(alias, names[3], (names[2],))
    assert [lite.has_collection(name) for name in names] == [False, False, True, True]
    assert list((tmp_path / names[0]).iterdir()) == []


def test_searches_never_fail_nor_see_fewer_rows_meanwhile(
    lite: MilvusClient, bundle: Path, alias: str, tmp_path: Path
) -> None:
    old, new = f"{alias}_1", f"{alias}_2"
    other = write_small_bundle(tmp_path / "other", bits=24, seed=5)
    for name, of, n in ((old, bundle, 30), (new, other, 35)):
        manifest = read_bundle(of).manifest
        HashCollection.create(lite, name, manifest).upsert(rows_of(n, manifest.bits))
    promote(lite, alias, old, tmp_path.joinpath)
    seen: set[int] = set()
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            collection = HashCollection.open(lite, alias)
            seen.add(len(search_hex(collection, "00" * code_bytes(collection.bits), SearchParams(100)).hits))

    searching = threading.Thread(target=search)
    searching.start()
    for _ in range(5):
        promote(lite, alias, new, tmp_path.joinpath, unverified=True)
        rollback(lite, alias)
    stop.set()
    searching.join()
    assert seen == {30, 35}
