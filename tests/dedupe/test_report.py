"""The document of duplicates: what it counts, what may go, and what it is read back as."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.dedupe.grouping import Kind
from milvus_fghash.dedupe.report import Duplicates, Group, Keep, Member, copies, redundant_rows, tally, write_csv
from milvus_fghash.errors import ConfigError, DataError
from tests.helpers.small_duplicates import duplicates

SEARCH = ("photos", "f" * 64, 3, 3)
ODD = 'a,"b\n;=1.jpg'


def group(kind: Kind, ids: str, path: str = "") -> Group:
    members = tuple(
        Member(id=key, path=path or f"{key}.jpg", label="x", content_sha="s", distance=place)
        for place, key in enumerate(ids)
    )
    confirmed = {"exact": len(ids) - 1, "near": 1}[kind]
    return Group(kind=kind, distance=len(ids) - 1, members=members, confirmed=confirmed)


GROUPS = (group("exact", "ab"), group("exact", "cde"), group("near", "abf"), group("near", "gh", ODD))


@pytest.fixture
def document() -> Duplicates:
    return duplicates(GROUPS, rows=dict.fromkeys("abcdefghij", "0" * 16))


def test_tallies(document: Duplicates) -> None:
    assert document.exact.model_dump() == {"groups": 2, "rows": 5, "redundant": 3, "confirmed": 3}
    assert document.near.model_dump() == {"groups": 2, "rows": 5, "redundant": 3, "confirmed": 2}
    assert tally((), "near").model_dump() == {"groups": 0, "rows": 0, "redundant": 0, "confirmed": 0}


@pytest.mark.parametrize(
    ("kinds", "keep", "goes"),
    [
        ([], "first", ""),
        (["exact"], "first", "bde"),
        (["exact"], "last", "acd"),
        (["near"], "first", "bfh"),
        (["near"], "last", "abg"),
        (["exact", "near"], "first", "bdefh"),
        (["exact", "near"], "last", "abcdg"),  # of a, b, f only f stays, though a and b are copies
    ],
)
def test_one_row_of_each_group_stays(kinds: list[Kind], keep: Any, goes: str) -> None:
    assert "".join(redundant_rows(GROUPS, kinds, keep)) == goes


ONE, TWO = "a5" * 8, "5a" * 8
"""Perceptual hashes that differ in every bit."""


def rows(*facts: str) -> list[Member]:
    """Rows of ``CONTENT PHASH``, "-" where one is not known."""
    split = [[word.replace("-", "") for word in fact.split()] for fact in facts]
    return [
        Member(id=str(number), path="", label="", content_sha=sha, distance=0, phash=phash)
        for number, (sha, phash) in enumerate(split)
    ]


@pytest.mark.parametrize(
    ("facts", "first", "last"),
    [
        ([f"s {ONE}", f"t {ONE}"], {"1": "0"}, {"0": "1"}),
        ([f"s {ONE}", f"t {TWO}"], {}, {}),  # near by code, and nothing else
        (["s -", "t -"], {}, {}),  # two that are not known are not alike
        ([f"s {ONE}", "t -"], {}, {}),
        (["s -", "s -"], {"1": "0"}, {"0": "1"}),  # equal files need no hash
        ([f"s {ONE}", f"t {ONE[:-2]}9a"], {"1": "0"}, {"0": "1"}),  # 6 bits apart
        ([f"s {ONE}", f"t {ONE[:-3]}49a"], {}, {}),  # 7 bits
        # a chain, each 6 bits from the next: the one in the middle goes, the ends stay
        ([f"s {ONE}", f"t {ONE[:-2]}9a", f"u {ONE[:-4]}9a9a"], {"1": "0"}, {"1": "2"}),
        # of two that stay, the nearest
        ([f"s {ONE}", f"t {ONE[:-4]}9a9a", f"u {ONE[:-4]}9aa5"], {"2": "0"}, {"1": "2", "0": "2"}),
        # an equal file of one that goes, itself without a hash
        ([f"s {ONE}", f"t {ONE}", "t -"], {"1": "0", "2": "0"}, {"1": "2"}),
        (["- -", "- -"], {}, {}),
    ],
)
def test_deleted_rows_are_copies_of_kept_ones(facts: list[str], first: dict[str, str], last: dict[str, str]) -> None:
    members = rows(*facts)
    wanted: dict[Keep, dict[str, str]] = {"first": first, "last": last}
    for keep, expected in wanted.items():
        found = copies(members, 6, keep)
        assert {key: stays.id for key, stays in found.items()} == expected
        assert not set(found) & {stays.id for stays in found.values()}
        near = [Group(kind="near", distance=0, members=tuple(members))]
        assert redundant_rows(near, ["near"], keep, 6) == sorted(expected)


@given(st.lists(st.tuples(st.sampled_from("stu-"), st.integers(0, 255)), min_size=2, max_size=12), st.integers(0, 8))
def test_against_every_pair(facts: list[tuple[str, int]], within: int) -> None:
    members = rows(*(f"{sha} {number * 0x0101 + 2**63:016x}" for sha, number in facts))
    staying: list[Member] = []
    goes: list[Member] = []
    for one in members:
        alike = [
            stays
            for stays in staying
            if (one.content_sha and one.content_sha == stays.content_sha)
            or (int(one.phash, 16) ^ int(stays.phash, 16)).bit_count() <= within
        ]
        alike += [copy for copy in goes if copy.content_sha and copy.content_sha == one.content_sha]
        (goes if alike else staying).append(one)
    assert list(copies(members, within)) == [one.id for one in goes]


def test_a_group_of_many_different_photos_takes_no_time() -> None:
    rng = np.random.default_rng(0)
    members = rows(*(f"{number} {int(phash):016x}" for number, phash in enumerate(rng.integers(0, 2**63, 5000))))
    started = time.process_time()  # not that of other processes
    assert copies(members, 6) == {}
    assert time.process_time() - started < 5


def test_what_is_written_is_read_again(document: Duplicates, tmp_path: Path) -> None:
    document.write(tmp_path / "groups.json")
    assert Duplicates.read(tmp_path / "groups.json") == document
    assert json.loads((tmp_path / "groups.json").read_text())["what"] == "duplicates"
    assert "rows" not in document.summary()
    assert document.summary()["groups"][0]["members"][0]["id"] == "a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "is not a result of dedupe"),
        ("[]", "is not a result of dedupe"),
        ('{"what": "duplicates", "formats": 1}', "Did you mean format"),
        ("{", "is not valid JSON"),
        (b"\xff\xfe\xfd", "is not valid JSON"),
    ],
)
def test_another_document_is_one_sentence(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "groups.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((ConfigError, DataError), match=message):
        Duplicates.read(file)
    with pytest.raises(DataError, match="cannot read"):
        Duplicates.read(tmp_path)


def test_a_document_of_before_is_read(document: Duplicates, tmp_path: Path) -> None:
    document.write(tmp_path / "groups.json")
    values = json.loads((tmp_path / "groups.json").read_text())
    del values["confirmed_within"], values["n_without_phash"]
    for part in [values["exact"], values["near"], *values["groups"]]:
        del part["confirmed"]
    for part in (values["exact"], values["near"]):
        part["spare"] = part.pop("redundant")
    values["n_compared_here"] = values.pop("n_compared_locally")
    del values["phashes"]
    for group in values["groups"]:
        for member in group["members"]:
            del member["phash"]
    (tmp_path / "groups.json").write_text(json.dumps(values))
    read = Duplicates.read(tmp_path / "groups.json")
    assert read.as_earlier(*SEARCH).groups == document.as_earlier(*SEARCH).groups
    assert (read.near.redundant, read.n_compared_locally) == (document.near.redundant, document.n_compared_locally)


def test_a_newer_document_is_not_read(document: Duplicates, tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text(json.dumps({**document.model_dump(mode="json"), "format": 2}))
    with pytest.raises(ConfigError, match="format"):
        Duplicates.read(tmp_path / "new.json")


def test_an_earlier_result_must_be_about_the_same_thing(document: Duplicates) -> None:
    earlier = document.as_earlier(*SEARCH)
    assert earlier.groups == [list("ab"), list("cde"), list("abf"), list("gh")]
    assert earlier.fingerprints == document.rows
    for asked, message in (
        (("birds", *SEARCH[1:]), "has the collection photos, this search birds"),
        (("photos", "e" * 64, 3, 3), "has the model ffffffffffff"),
        (("photos", "f" * 64, 4, 3), "has the largest distance of codes 3, this search 4"),
        (("photos", "f" * 64, None, 3), r"has the largest distance of codes 3, this search \(none\)"),
        (("photos", "f" * 64, 3, 5), "has the largest distance of perceptual hashes 3, this search 5"),
    ):
        with pytest.raises(ConfigError, match=message):
            document.as_earlier(*asked)


def test_csv_has_a_line_for_each_member(tmp_path: Path) -> None:
    write_csv(tmp_path / "groups.csv", GROUPS)
    with open(tmp_path / "groups.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["group"] + line["kind"][0] + line["id"] for line in lines] == [
        "1ea", "1eb", "2ec", "2ed", "2ee", "3na", "3nb", "3nf", "4ng", "4nh"
    ]  # fmt: skip
    assert lines[-1]["path"] == ODD
    assert lines[-1]["distance"] == "1"


def test_a_formula_stays_a_text_in_csv_and_json_stays_exact(tmp_path: Path) -> None:
    formula = '=HYPERLINK("http://x/","robin")'
    evil = group("near", "ab", formula)
    write_csv(tmp_path / "groups.csv", [evil])
    with open(tmp_path / "groups.csv", newline="") as file:
        assert [line["path"] for line in csv.DictReader(file)] == [f"'{formula}"] * 2
    duplicates([evil]).write(tmp_path / "groups.json")
    (read,) = Duplicates.read(tmp_path / "groups.json").groups
    assert read.members[0].path == formula
