"""Deleting rows on Milvus Lite: exactly those that were meant, counted as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.errors import ConfigError, StoreError
from milvus_fghash.ingest.delete import Deletion, delete_ids, delete_where, read_ids
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.rows import Rows
from milvus_fghash.state.journal import Journal, JournalEntry

pytestmark = pytest.mark.full


@pytest.fixture
def ten(lite: MilvusClient, bundle: Path, new_name: str) -> HashCollection:
    """Rows 0 to 9, of the labels x and y by turns."""
    collection = HashCollection.create(lite, new_name, read_bundle(bundle).manifest)
    ids = tuple("0123456789")
    collection.upsert(Rows(ids, np.zeros((10, 2), np.uint8), ids, ("x", "y") * 5, ("",) * 10, ({},) * 10))
    return collection


def left(collection: HashCollection) -> str:
    return "".join(sorted(key for rows in collection.scan() for key in rows.ids))


def test_by_id_counts_what_was_there(ten: HashCollection) -> None:
    assert ten.delete(["3", "nobody", "5", "3"]) == 2
    assert left(ten) == "01246789"
    assert ten.delete(["3", "5"]) == 0
    assert ten.delete([]) == 0
    assert left(ten) == "01246789"


def test_batches_are_bounded_and_none_is_left_out(ten: HashCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.milvus.collection.MAX_IDS_PER_CALL", 3)
    asked: list[str] = []
    delete = ten.client.delete

    def watched(*args: Any, **rest: Any) -> Any:
        asked.append(rest["filter"])
        return delete(*args, **rest)

    monkeypatch.setattr(ten.client, "delete", watched)
    assert delete_ids(ten, "9876543", yes=True) == Deletion(ten.name, 7, 0, 7, 3)
    assert [expression.count('"') // 2 for expression in asked] == [3, 3, 1]
    assert left(ten) == "012"


def test_without_yes_nothing_goes(ten: HashCollection) -> None:
    assert delete_ids(ten, ["1", "2", "nobody", "1"]) == Deletion(ten.name, 2, 1, 0, 10)
    assert delete_where(ten, 'label == "x"') == Deletion(ten.name, 5, 0, 0, 10)
    assert left(ten) == "0123456789"


def test_by_filter(ten: HashCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("milvus_fghash.ingest.delete.IDS_PER_PAGE", 2)
    assert delete_where(ten, 'label == "x" or id == "1"', yes=True) == Deletion(ten.name, 6, 0, 6, 4)
    assert left(ten) == "3579"
    assert delete_where(ten, 'label == "z"', yes=True) == Deletion(ten.name, 0, 0, 0, 4)


WRONG = ["label ==", "nothing == 3", "label == 'open"]
HALF = ['label == "x" label == "y"', 'label == "x" y', 'label == "x", label == "y"', 'id != "7" nd label == "x"']
"""Milvus Lite reads these up to where they stop to make sense, and says nothing."""


@pytest.mark.parametrize("expression", WRONG + HALF)
def test_a_wrong_filter_is_one_line_and_deletes_nothing(ten: HashCollection, expression: str) -> None:
    with pytest.raises(ConfigError, match=r"^invalid filter .*: ") as caught:
        delete_where(ten, expression, yes=True)
    assert "\n" not in str(caught.value)
    assert left(ten) == "0123456789"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            'label == "x") or (label == "y"',
            "no open bracket matches",
        ),  # beside the iterator's own condition this would go on for ever
        ('(label == "x"', "this bracket is never closed"),
        ('label == "(" or label == "x")', "no open bracket matches"),
    ],
)
def test_brackets_must_match(ten: HashCollection, expression: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        delete_where(ten, expression, yes=True)
    assert left(ten) == "0123456789"


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('label == "x" or label == "y"', 10),
        ('label == "x" and id != "0"', 4),
        ('label not in ["x"]', 5),
        ('meta["none"] == 1', 0),
        ('id in ["1", "2"]', 2),
        ('path like "3%"', 1),
    ],
)
def test_right_filters_are_taken(ten: HashCollection, expression: str, found: int) -> None:
    assert delete_where(ten, expression).found == found


def test_brackets_in_texts_are_letters(ten: HashCollection) -> None:
    assert delete_where(ten, 'label == ")" or path == \'(\' or (id == "7" and label != "\\")")').found == 1


@pytest.mark.parametrize("expression", ["", "  "])
def test_an_empty_filter_does_not_mean_everything(ten: HashCollection, expression: str) -> None:
    with pytest.raises(ConfigError, match="matches every row"):
        delete_where(ten, expression, yes=True)
    assert left(ten) == "0123456789"


@pytest.mark.parametrize(
    "key", ["x' or id != '", 'x" or id != "', "x') or (id != '", 'x"] or id not in ["x', "\\", "ä"]
)
def test_an_id_is_never_read_as_a_condition(ten: HashCollection, key: str) -> None:
    assert delete_ids(ten, [key], yes=True) == Deletion(ten.name, 0, 1, 0, 10)
    if "'" in key:
        with pytest.raises(StoreError, match="contains a single quote"):
            ten.delete([key])
    assert len(ten.get([key, "7"])) == 1
    assert left(ten) == "0123456789"


def test_what_cannot_be_deleted_is_not_written_down_as_deleted(ten: HashCollection) -> None:
    """Milvus Lite deletes no id with a single quote; then nothing goes, and the journal keeps what it says."""
    row = {"id": "it's", "code": bytes(2), "path": "p", "label": "", "content_sha": "", "meta": {}, "phash": 0}
    ten.client.insert(ten.name, [row])  # an upsert of it fails there, too
    journal = Journal.in_memory()
    journal.put([JournalEntry(key, key, "stamp", "sha") for key in ("it's", "7")])
    with pytest.raises(StoreError, match="contains a single quote"):
        delete_ids(ten, ["7", "it's"], yes=True, journal=journal)
    assert left(ten).replace("it's", "") == "0123456789"
    assert [entry.reason for entry in journal.entries()] == ["", ""]
    journal.close()


def test_odd_ids_that_are_there_can_go(ten: HashCollection) -> None:
    odd = ('a"b', "a\\", "ä", "\\u0041")
    ten.upsert(Rows(odd, np.zeros((4, 2), np.uint8), odd, ("",) * 4, ("",) * 4, ({},) * 4))
    assert ten.delete(odd) == 4
    assert left(ten) == "0123456789"


def test_an_id_too_long_for_the_column(ten: HashCollection) -> None:
    with pytest.raises(StoreError, match="the maximum is 64"):
        delete_ids(ten, ["x" * 65], yes=True)


def test_ids_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_bytes("\ufeff3\r\n\n 5 \nä\x85b\n".encode())
    assert read_ids(file) == ["3", " 5 ", "ä\x85b"]
    for content, message in ((b"\n \n", "no id in"), (b"\xff\n", "not UTF-8 text")):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            read_ids(file)
    with pytest.raises(ConfigError, match="cannot read the ids"):
        read_ids(tmp_path)
