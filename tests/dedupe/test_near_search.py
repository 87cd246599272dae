"""Duplicates in Milvus Lite: by hand, against NumPy, full pages, and what changed since an earlier search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.core.codes import hamming, pack
from milvus_fghash.dedupe.near_search import find_duplicates
from milvus_fghash.dedupe.report import Duplicates
from milvus_fghash.errors import ConfigError, StoreError
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows
from tests.helpers.small_bundle import write_small_bundle

pytestmark = pytest.mark.full

Held = Mapping[str, tuple[int, str]]
"""id -> (code of 12 bits in the upper bits of 16, content)."""

SEVEN: Held = {
    "a": (0x0000, "one"),
    "b": (0x8000, "two"),  # 1 bit from a
    "c": (0xC000, "three"),  # 1 from b, 2 from a, 6 from g
    "d": (0x0FF0, "four"),
    "e": (0x0FF0, "four"),  # a copy of d
    "f": (0x0F00, "five"),  # 4 from a and d
    "g": (0xF0F0, ""),
}


def rows_of(held: Held) -> Rows:
    codes = np.array([code for code, _sha in held.values()], ">u2").view(np.uint8).reshape(-1, 2)
    ids = tuple(held)
    paths = tuple(f"{chr(ord('z') - ord(key[0]) + ord('a'))}.jpg" for key in ids)  # in the order opposite to the ids
    return Rows(ids, codes, paths, ("x",) * len(ids), tuple(sha for _code, sha in held.values()), ({},) * len(ids))


@pytest.fixture
def empty(lite: MilvusClient, bundle: Path, new_name: str) -> HashCollection:
    return HashCollection.create(lite, new_name, read_bundle(bundle).manifest)


@pytest.fixture
def seven(empty: HashCollection) -> HashCollection:
    empty.upsert(rows_of(SEVEN))
    return empty


def named(found: Duplicates) -> list[str]:
    return [group.kind + " " + "".join(one.id for one in group.members) for group in found.groups]


@pytest.mark.parametrize(
    ("within", "groups"),
    [
        (0, ["exact ed"]),
        (1, ["exact ed", "near cba"]),
        (3, ["exact ed", "near cba"]),
        (4, ["exact ed", "near fedcba"]),  # a, f and f, d are 4 apart
        (6, ["exact ed", "near gfedcba"]),  # c, g
        (12, ["exact ed", "near gfedcba"]),
    ],
)
def test_worked_by_hand(seven: HashCollection, within: int, groups: list[str]) -> None:
    found = find_duplicates(seven, within)
    assert named(found) == groups
    assert (found.n_rows, found.n_searched, found.max_distance) == (7, 6, within)


def test_members_stand_by_path_with_their_distance_from_the_first(seven: HashCollection) -> None:
    _exact, near = find_duplicates(seven, 1).groups
    assert [(one.path, one.id, one.distance) for one in near.members] == [
        ("x.jpg", "c", 0), ("y.jpg", "b", 1), ("z.jpg", "a", 2)
    ]  # fmt: skip
    assert near.distance == 2  # though no more than 1 was asked for: joins go on
    assert {one.label for one in near.members} == {"x"}
    assert [one.content_sha for one in near.members] == ["three", "two", "one"]


def test_the_default_distance_follows_from_the_bits_or_is_that_of_the_earlier_result(seven: HashCollection) -> None:
    assert find_duplicates(seven).max_distance == 0
    assert find_duplicates(seven, earlier=find_duplicates(seven, 2)).max_distance == 2
    for distance in (-1, 13):
        with pytest.raises(ConfigError, match="0 to 12, the code length"):
            find_duplicates(seven, distance)


def test_an_empty_collection_has_no_duplicates(empty: HashCollection) -> None:
    found = find_duplicates(empty, 3)
    assert (found.n_rows, found.n_searched, found.groups, found.rows) == (0, 0, (), {})


@pytest.mark.parametrize("hits", [1, 3, 4, 256])
def test_a_full_page_hides_nothing(seven: HashCollection, monkeypatch: pytest.MonkeyPatch, hits: int) -> None:
    whole = find_duplicates(seven, 4)
    monkeypatch.setattr("milvus_fghash.dedupe.near_search.MAX_NEIGHBOURS", hits)
    monkeypatch.setattr("milvus_fghash.search.search.MAX_ROWS_PER_CALL", 2 * hits)  # two codes a call
    monkeypatch.setattr("milvus_fghash.dedupe.take_census.ROWS_PER_CALL", 2)
    monkeypatch.setattr("milvus_fghash.dedupe.near_search.MAX_IDS_PER_CALL", 2)
    found = find_duplicates(seven, 4)
    assert found.groups == whole.groups
    assert found.n_compared_locally == {1: 6, 3: 5, 4: 2, 256: 0}[hits]


def test_against_numpy_with_many_rows(lite: MilvusClient, new_name: str, tmp_path: Path) -> None:
    """700 rows of 24 bits around 40 centres; some within 2 bits, most not."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 24))
    codes = pack(centres[rng.integers(0, 40, 700)] + 0.5 * rng.standard_normal((700, 24)))
    ids = tuple(f"{number:03}" for number in range(700))
    collection = HashCollection.create(lite, new_name, read_bundle(write_small_bundle(tmp_path / "b", 24)).manifest)
    collection.upsert(Rows(ids, codes, ids, ("",) * 700, ("",) * 700, ({},) * 700))
    for within in (0, 1, 2):
        near = hamming(codes, codes) <= within
        reached = near.copy()
        while not np.array_equal(wider := reached @ near, reached):
            reached = wider
        expected = sorted({tuple(np.flatnonzero(row).tolist()) for row in reached if row.sum() > 1})
        found = find_duplicates(collection, within)
        assert [tuple(int(one.id) for one in group.members) for group in found.groups] == expected
        assert found.near.rows == sum(map(len, expected))
        assert 0 < len(expected) < 700 / 2


CHANGES: list[tuple[Held, str, int]] = [
    ({}, "", 0),
    ({"h": (0x8000, "new")}, "", 1),
    ({"h": (0x00F0, "new")}, "", 1),
    ({"b": (0x8000, "new")}, "", 3),  # its group is asked for again
    ({"g": (0xE000, "")}, "", 1),  # same content, another code: joins c
    ({}, "b", 2),  # what joined a and c is gone
    ({}, "d", 0),  # e is left alone
    ({"b": (0xFFF0, "two"), "h": (0x4000, "new")}, "eg", 4),
]


@pytest.mark.parametrize(("change", "gone", "searched"), CHANGES)
def test_going_on_gives_what_a_full_search_gives(seven: HashCollection, change: Held, gone: str, searched: int) -> None:
    earlier = find_duplicates(seven, 1)
    if change:
        seven.upsert(rows_of(change))
    seven.delete(list(gone))
    went_on, full = find_duplicates(seven, 1, earlier), find_duplicates(seven, 1)
    assert went_on.n_searched == searched
    assert facts(went_on) == facts(full)
    assert full.n_rows == len(dict(SEVEN) | dict(change)) - len(gone)


def facts(found: Duplicates) -> Any:
    return found.model_dump(exclude={"made_at", "n_searched", "n_compared_locally"})


def test_an_earlier_result_of_another_distance_is_rejected(seven: HashCollection) -> None:
    with pytest.raises(ConfigError, match="has the largest distance of codes 1, this search 2"):
        find_duplicates(seven, 2, find_duplicates(seven, 1))


@pytest.mark.parametrize("change", [{"b": (0x8000, "new")}, {"b": (0x4000, "two")}, {}])
def test_a_row_that_changes_during_the_search_is_an_error(seven: HashCollection, change: Held) -> None:
    def meddle(*_counts: int) -> None:
        if change:
            seven.upsert(rows_of(change))
        else:
            seven.delete(["b"])

    with pytest.raises(StoreError, match="were changed during the search"):
        find_duplicates(seven, 1, progress=meddle)


def test_a_row_that_is_written_meanwhile_is_no_stumbling_block(seven: HashCollection, monkeypatch: Any) -> None:
    monkeypatch.setattr("milvus_fghash.dedupe.near_search.MAX_NEIGHBOURS", 8)
    monkeypatch.setattr("milvus_fghash.search.search.MAX_ROWS_PER_CALL", 8)  # one code a call
    added = []

    def add(done: int, total: int) -> None:
        if (done, total) == (1, 6):  # of the codes, not of the tables of hashes
            added.append(seven.upsert(rows_of({"h": (0x8000, "new")})))

    found = find_duplicates(seven, 1, progress=add)
    assert added == [1]
    assert "h" not in found.rows
    assert named(found) == ["exact ed", "near cba"]


def test_codes_that_do_not_distinguish_photos_give_a_warning(empty: HashCollection) -> None:
    empty.upsert(rows_of({f"{chr(97 + number % 26)}{number}": (0x0F00, "") for number in range(21)}))
    note = find_duplicates(empty).note
    assert note.startswith("no perceptual hash is known")
    assert "; one near group holds 21 of 21 rows, so the codes do not" in note
    empty.delete(["a0"])
    assert "holds" not in find_duplicates(empty).note
