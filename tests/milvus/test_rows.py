"""Ids and what fits into a column."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.errors import ConfigError, StoreError
from milvus_fghash.milvus.rows import MAX_DEPTH, check_all_fit, check_fits, check_metas, photo_id

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
    with pytest.raises(StoreError, match=r"the label 'é+'\.\.\. has 1,026 bytes; the maximum is 1,024"):
        check_fits("label", "é" * 513)


@pytest.mark.parametrize(
    "meta",
    [{"x": float("inf")}, {"x": object()}, {"x": "y" * 70_000}, {"x": "\udcff"}, {"x": [2**63]}, {"x": -(2**63) - 1}],
)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_meta_that_is_no_json_or_too_long_is_rejected(meta: dict[str, object], place: int) -> None:
    metas: list[dict[str, object]] = [{}] * 5
    metas[place] = meta
    with pytest.raises(StoreError):
        check_metas(metas)


def nested(levels: int) -> dict[str, object]:
    meta: dict[str, object] = {}
    for level in range(levels - 1):
        meta = {"x": meta} if level % 2 else {"x": [meta]}
    return meta


@pytest.mark.parametrize("meta", [[], ["x"], "x", None, 7, nested(MAX_DEPTH), nested(5000)])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_meta_that_is_no_object_or_too_deep_is_rejected(meta: Any, place: int) -> None:
    metas: list[Any] = [{}] * 5
    metas[place] = meta
    with pytest.raises(StoreError, match=r"^meta must be a JSON object"):
        check_metas(metas)
    assert check_metas([nested(MAX_DEPTH // 2)])


def test_each_meta_may_have_all_the_bytes() -> None:
    large = {"x": "é" * 32_763}
    assert check_metas([large] * 3) == [large] * 3
    with pytest.raises(StoreError, match="65,537 bytes"):
        check_metas([large, {"x": "é" * 32_764}, large])
    assert check_metas([]) == []
    whole = [{"x": 2**63 - 1, "y": -(2**63), "z": str(2**70), "u": 0.1234567890123456789}]
    assert check_metas(whole) == whole


@given(st.lists(st.text(max_size=80) | st.text("é", min_size=30, max_size=34)))
def test_many_texts_are_checked_as_each_is(texts: list[str]) -> None:
    def fits(text: str) -> bool:
        try:
            return check_fits("content_sha", text) == text
        except StoreError:
            return False

    if all(map(fits, texts)):
        assert check_all_fit("content_sha", texts) == texts
    else:
        with pytest.raises(StoreError):
            check_all_fit("content_sha", texts)
