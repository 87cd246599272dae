"""HashCollection rejects rows before Milvus gets them: vectors of another width, and ids whose row would be lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient

from milvus_fghash.bundle.bundle import read_bundle
from milvus_fghash.errors import CodeError, FghashError, StoreError
from milvus_fghash.milvus.collection import HashCollection
from tests.helpers.small_rows import rows_of


@pytest.fixture(scope="module")
def made(lite: MilvusClient, bundle: Path) -> HashCollection:
    """Codes of 12 bits, 2 bytes, beside embeddings of 3 numbers."""
    return HashCollection.create(lite, "written_rows", read_bundle(bundle).manifest, embedding_dim=3)


@pytest.fixture
def small(made: HashCollection) -> HashCollection:
    """Emptied."""
    made.delete([key for rows in made.scan() for key in rows.ids])
    assert made.count() == 0
    return made


def changed(collection: HashCollection, **changes: Any) -> dict[str, list[Any]]:
    """Three valid rows by field, the second of them changed."""
    made = collection.field_values(rows_of(3, 12), np.ones((3, 3), np.float32))
    values = {name: list(column) for name, column in made.items()}
    for name, value in changes.items():
        values[name][1] = value
    return values


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"code": b"a"}, CodeError, "has 1 bytes; expected 2"),
        ({"code": b"abc"}, CodeError, "has 3 bytes"),
        ({"code": b"abcd"}, CodeError, "has 4 bytes"),
        ({"code": b""}, CodeError, "has 0 bytes"),
        ({"code": b"a\1"}, CodeError, "the last 4 bits"),
        ({"code": [1, 0]}, CodeError, r"has no bytes: \[1, 0\]"),
        ({"code": None}, CodeError, "has no bytes: None"),
        ({"embedding": np.ones(2, np.float32)}, CodeError, "the embedding .* has 2 numbers; expected 3"),
        ({"embedding": [1.0, 2.0, 3.0, 4.0]}, CodeError, "has 4 numbers"),
        ({"id": "a\nb"}, StoreError, r"the id 'a\\nb' contains a control character"),
        ({"id": "a\0"}, StoreError, "control character"),
        ({"id": "\x7f"}, StoreError, "control character"),
        ({"id": "it's"}, StoreError, 'Milvus Lite cannot write the row "it\'s": its id contains a single quote'),
        ({"id": "é" * 33}, StoreError, "has 66 bytes"),
        ({"id": "\udcff"}, StoreError, "not valid UTF-8"),
        ({"id": 7}, StoreError, "must be a string, got 7"),
        ({"id": rows_of(1, 12).ids[0]}, StoreError, "occurs twice"),
    ],
)
def test_nothing_is_written_of_rows_of_which_one_is_wrong(
    small: HashCollection, changes: dict[str, Any], kind: type[FghashError], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        small.write(changed(small, **changes))
    assert "\n" not in str(caught.value)
    assert small.count() == 0


@pytest.mark.parametrize("name", ["id", "code", "path", "meta", "embedding", "phash"])
def test_a_value_that_is_missing_is_named(small: HashCollection, name: str) -> None:
    """Milvus Lite would die of some."""
    made = changed(small)
    del made[name]
    with pytest.raises(StoreError, match=rf"have no {name}; each row needs one$"):
        small.write(made)
    assert small.count() == 0


def test_columns_of_different_lengths_are_rejected(small: HashCollection) -> None:
    made = changed(small)
    made["label"].pop()
    with pytest.raises(StoreError, match=r"differ in length: id 3, .*label 2"):
        small.write(made)
    assert small.count() == 0


@pytest.mark.parametrize("key", ["a\tb", "\x1b[0m", "it's", "x" * 65])
def test_upserted_rows_are_checked_alike(small: HashCollection, key: str) -> None:
    rows = replace(rows_of(2, 12), ids=("good", key))
    with pytest.raises(StoreError, match="id"):
        small.upsert(rows, np.ones((2, 3), np.float32))
    assert small.count() == 0


@pytest.mark.parametrize("key", ['a"b', "a\\b", "\\", " a ", "ü%_]", "\u2028", "\u200b", "\ufeffx", "$", "x" * 64])
def test_what_is_taken_is_found_and_deleted(small: HashCollection, key: str) -> None:
    rows = replace(rows_of(2, 12), ids=("good", key))
    small.upsert(rows, np.ones((2, 3), np.float32))
    assert small.get([key]).ids == (key,)
    assert small.delete([key]) == 1
    assert small.count() == 1


def test_of_rows_with_the_same_id_the_last_one_is_written(small: HashCollection) -> None:
    rows = replace(rows_of(3, 12), ids=("a", "b", "a"), labels=("first", "other", "last"))
    embeddings = np.arange(9, dtype=np.float32).reshape(3, 3)
    assert small.upsert(rows, embeddings) == 2
    found = small.get(["a", "b"])
    assert (found.ids, found.labels) == (("a", "b"), ("last", "other"))
    assert found.codes.tolist() == rows.codes[[2, 1]].tolist()
    assert small.count() == 2
