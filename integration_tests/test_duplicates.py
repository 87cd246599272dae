"""Deleting, and duplicates, on Milvus Lite and on a real server: against NumPy, sealed and just written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from integration_tests.random_rows import manifest_of, random_rows
from milvus_fghash.core.codes import hamming
from milvus_fghash.dedupe.near_search import find_duplicates
from milvus_fghash.dedupe.report import Duplicates
from milvus_fghash.errors import ConfigError
from milvus_fghash.ingest.delete import delete_ids, delete_where
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows

N_ROWS = 1200


def rows_of(bits: int, seed: int = 0) -> Rows:
    """Random rows; of every 50 rows the second has the content and code of the first."""
    rows = random_rows(N_ROWS, bits, seed=seed)
    copied = np.arange(N_ROWS) - (np.arange(N_ROWS) % 50 == 1)
    return replace(rows, codes=rows.codes[copied], content_shas=tuple(f"{number:064x}" for number in copied))


def expected(rows: Rows, within: int) -> set[tuple[str, ...]]:
    """Ids of near groups, each ascending, as NumPy finds them."""
    near = hamming(rows.codes, rows.codes) <= within
    group = np.arange(len(rows))
    while True:
        reached = np.array([group[others].min() for others in near])
        if np.array_equal(reached, group):
            break
        group = reached
    found = (np.flatnonzero(group == first) for first in np.unique(group))
    return {
        tuple(sorted(rows.ids[row] for row in part))
        for part in found
        if len({rows.content_shas[row] for row in part}) > 1
    }


def ids_of(found: Duplicates, kind: str) -> set[tuple[str, ...]]:
    return {tuple(sorted(one.id for one in group.members)) for group in found.groups if group.kind == kind}


def facts(found: Duplicates) -> Any:
    return found.model_dump(exclude={"made_at", "n_searched", "n_compared_locally"})


@pytest.mark.parametrize(
    ("kind", "index", "sealed"),
    [
        ("lite", "BIN_FLAT", False),  # Lite seals nothing
        ("server", "BIN_FLAT", False),
        ("server", "BIN_FLAT", True),
        ("server", "BIN_IVF_FLAT", True),  # before a segment is sealed, it has no index
    ],
)
def test_groups_are_numpys_before_and_after_changes(
    request: pytest.FixtureRequest, new_name: str, kind: Any, index: Any, sealed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: MilvusClient = request.getfixturevalue(kind)
    collection = HashCollection.create(client, new_name, manifest_of(32), index=index, nlist=8)
    rows = rows_of(32)
    collection.upsert(rows)
    if sealed:
        client.flush(new_name, timeout=60)
        client.release_collection(new_name)
        client.load_collection(new_name, timeout=60)
    for within in (0, 3, 4):
        found = find_duplicates(collection, within)  # at once: it must wait for the writes
        assert ids_of(found, "near") == expected(rows, within)
        assert found.exact.groups == N_ROWS / 50
        assert found.n_rows == N_ROWS
    earlier = found
    gone = [group.members[1].id for group in earlier.groups[::3]]
    assert collection.delete(gone) == len(set(gone))
    more = random_rows(200, 32, seed=5, namespace="new")
    collection.upsert(more)
    went_on, full = find_duplicates(collection, 4, earlier), find_duplicates(collection, 4)
    assert facts(went_on) == facts(full)
    assert went_on.n_searched < full.n_searched
    monkeypatch.setattr("milvus_fghash.dedupe.near_search.MAX_NEIGHBOURS", 2)
    assert facts(find_duplicates(collection, 4)) == facts(full)
    client.drop_collection(new_name)


def test_more_copies_than_milvus_returns_are_one_group(client: MilvusClient, dropped: str) -> None:
    """20,000 rows of one code, and two that are near it: Milvus gives 16,384 rows of them at most."""
    collection = HashCollection.create(client, dropped, manifest_of(32))
    rows = random_rows(20_002, 32)
    codes = np.zeros((20_002, 4), np.uint8)
    codes[-2:, 0] = 0x80, 0xC0
    for start in range(0, 20_002, 5000):
        part = slice(start, start + 5000)
        collection.upsert(
            Rows(rows.ids[part], codes[part], rows.paths[part], rows.labels[part], ("",) * len(codes[part]),
                 rows.metas[part])
        )  # fmt: skip
    found = find_duplicates(collection, 1)
    (group,) = found.groups
    assert len(group.members) == 20_002
    assert (found.n_searched, found.n_compared_locally) == (3, 2)
    assert found.note


def test_deleted_rows_are_gone_at_once(client: MilvusClient, dropped: str) -> None:
    collection = HashCollection.create(client, dropped, manifest_of(12))
    rows = random_rows(2500, 12)
    collection.upsert(rows)
    done = delete_ids(collection, [*rows.ids[:1200], "nobody", rows.ids[0]], yes=True)
    assert (done.found, done.missing, done.deleted, done.rows_in_collection) == (1200, 1, 1200, 1300)
    assert len(collection.get(rows.ids[:10])) == 0
    left = {key for page in collection.scan() for key in page.ids}
    assert left == set(rows.ids[1200:])
    assert collection.delete(rows.ids[:1200]) == 0


def test_by_filter(client: MilvusClient, dropped: str) -> None:
    collection = HashCollection.create(client, dropped, manifest_of(12))
    rows = random_rows(2100, 12)
    collection.upsert(rows)
    expression = 'label == "class 3" or meta["number"] < 7'
    assert delete_where(collection, expression).found == 306
    done = delete_where(collection, expression, yes=True)
    assert (done.found, done.deleted, done.rows_in_collection) == (306, 306, 1794)
    labels = [label for page in collection.scan() for label in page.labels]
    assert labels.count("class 3") == 0
    assert len(labels) == 1794
    for wrong in ("label ==", "nothing == 3", "label == 'open", 'label == "x" label == "y"'):
        with pytest.raises(ConfigError, match=r"The columns are id, path, label") as caught:
            delete_where(collection, wrong, yes=True)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="bracket"):
        delete_where(collection, 'label == "class 1") or (label == "class 2"', yes=True)
    assert collection.count() == 1794


def test_an_id_is_never_read_as_a_condition(client: MilvusClient, dropped: str) -> None:
    collection = HashCollection.create(client, dropped, manifest_of(12))
    rows = random_rows(50, 12)
    collection.upsert(rows)
    for key in ("x' or id != '", 'x" or id != "', 'x"] or id not in ["x', "x') or (id != '", "\\"):
        assert delete_ids(collection, [key], yes=True).missing == 1
        assert list(collection.get([key, rows.ids[3]]).ids) == [rows.ids[3]]
    assert collection.count() == 50
    odd = ('a"b', "a\\", "ä", "\\u0041")
    collection.upsert(Rows(odd, rows.codes[:4], odd, ("",) * 4, ("",) * 4, ({},) * 4))
    assert collection.delete(odd) == 4
    assert collection.count() == 50
