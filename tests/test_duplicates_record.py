"""The document of duplicates: what it counts, what may go, and what it is read back as."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from milvus_fghash.duplicates import Kind
from milvus_fghash.duplicates_record import Duplicates, Group, Member, spare_rows, tally, write_csv
from milvus_fghash.errors import ConfigError, DataError
from tests.small_duplicates import duplicates

ODD = 'a,"b\n;=1.jpg'


def group(kind: Kind, ids: str, path: str = "") -> Group:
    members = tuple(
        Member(id=key, path=path or f"{key}.jpg", label="x", content_sha="s", distance=place)
        for place, key in enumerate(ids)
    )
    return Group(kind=kind, distance=len(ids) - 1, members=members)


GROUPS = (group("exact", "ab"), group("exact", "cde"), group("near", "abf"), group("near", "gh", ODD))


@pytest.fixture
def document() -> Duplicates:
    return duplicates(GROUPS, rows=dict.fromkeys("abcdefghij", "0" * 16))


def test_tallies(document: Duplicates) -> None:
    assert document.exact.model_dump() == {"groups": 2, "rows": 5, "spare": 3}
    assert document.near.model_dump() == {"groups": 2, "rows": 5, "spare": 3}
    assert tally((), "near").model_dump() == {"groups": 0, "rows": 0, "spare": 0}


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
    assert "".join(spare_rows(GROUPS, kinds, keep)) == goes


def test_what_is_written_is_read_again(document: Duplicates, tmp_path: Path) -> None:
    document.write(tmp_path / "groups.json")
    assert Duplicates.read(tmp_path / "groups.json") == document
    assert json.loads((tmp_path / "groups.json").read_text())["what"] == "duplicates"
    assert "rows" not in document.shown()
    assert document.shown()["groups"][0]["members"][0]["id"] == "a"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "is no result of dedupe"),
        ("[]", "is no result of dedupe"),
        ('{"what": "duplicates", "formats": 1}', "Did you mean format"),
        ("{", "is no JSON"),
        (b"\xff\xfe\xfd", "is no JSON"),
    ],
)
def test_another_document_is_one_sentence(tmp_path: Path, content: str | bytes, said: str) -> None:
    file = tmp_path / "groups.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((ConfigError, DataError), match=said):
        Duplicates.read(file)
    with pytest.raises(DataError, match="cannot read"):
        Duplicates.read(tmp_path)


def test_a_newer_document_is_not_read(document: Duplicates, tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text(json.dumps({**document.model_dump(mode="json"), "format": 2}))
    with pytest.raises(ConfigError, match="format"):
        Duplicates.read(tmp_path / "new.json")


def test_an_earlier_result_must_be_about_the_same_thing(document: Duplicates) -> None:
    earlier = document.as_earlier("photos", "f" * 64, 3)
    assert earlier.groups == [list("ab"), list("cde"), list("abf"), list("gh")]
    assert earlier.marks == document.rows
    for asked, said in (
        (("birds", "f" * 64, 3), "about the collection photos, this search about birds"),
        (("photos", "e" * 64, 3), "about the model ffffffffffff"),
        (("photos", "f" * 64, 4), "about a largest distance of 3, this search about 4"),
    ):
        with pytest.raises(ConfigError, match=said):
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
