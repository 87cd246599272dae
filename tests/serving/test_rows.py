"""Ids and what fits into a column."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.errors import ConfigError, StoreError
from milvus_fghash.serving.rows import check_fits, check_meta, photo_id

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


def test_the_id_is_the_hash_it_says() -> None:
    assert photo_id("shop", "a/b.jpg") == hashlib.blake2b(b"shop\0a/b.jpg", digest_size=16).hexdigest()


@given(TEXT, TEXT, TEXT, TEXT)
def test_ids_are_equal_only_for_equal_photos(space: str, path: str, other_space: str, other: str) -> None:
    same = (space, path) == (other_space, other)
    assert (photo_id(space, path) == photo_id(other_space, other)) is same


def test_a_namespace_cannot_run_into_the_path() -> None:
    with pytest.raises(ConfigError, match="NUL"):
        photo_id("a\0b", "c")


def test_a_file_name_that_is_no_utf8_has_an_id() -> None:
    assert len(photo_id("", "caf\udce9.jpg")) == 32


def test_bytes_count_not_letters() -> None:
    assert check_fits("label", "é" * 512) == "é" * 512
    with pytest.raises(StoreError, match=r"the label 'é+'\.\.\. has 1,026 bytes; at most 1,024 fit"):
        check_fits("label", "é" * 513)


@pytest.mark.parametrize("meta", [{"x": float("inf")}, {"x": object()}, {"x": "y" * 70_000}, {"x": "\udcff"}])
def test_meta_that_is_no_json_or_too_long_is_refused(meta: dict[str, object]) -> None:
    with pytest.raises(StoreError):
        check_meta(meta)
