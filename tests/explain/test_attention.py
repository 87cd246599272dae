"""Which attention maps are shown, and that those left out are told of."""

from __future__ import annotations

import numpy as np
import pytest

from milvus_fghash.explain.attention import attention_views, noted
from milvus_fghash.explain.pictures import overlay, stretched

PHOTO = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.mark.parametrize(
    ("maps", "max_maps", "captions", "left_out"),
    [
        (1, 12, ["where the network looks"], ""),
        (3, 12, ["part 1 of 3", "part 2 of 3", "part 3 of 3"], ""),
        (3, 2, ["part 1 of 3", "part 2 of 3"],
         "2 of 3 attention maps are shown."),
    ],
)  # fmt: skip
def test_maps_that_are_not_shown_are_told_of(maps: int, max_maps: int, captions: list[str], left_out: str) -> None:
    views = attention_views(PHOTO, np.random.default_rng(1).random((maps, 4, 4)), max_maps)
    assert [view.caption for view in views.shown] == captions
    assert {view.kind for view in views.shown} == {"attention"}
    assert views.left_out == left_out


def test_each_map_is_stretched_by_itself_and_a_dead_one_is_named() -> None:
    maps = np.random.default_rng(1).random((3, 4, 4)) * [[[1]], [[0]], [[9]]]
    views = attention_views(PHOTO, maps, 12).shown
    assert [view.caption for view in views] == ["part 1 of 3", "part 2 of 3, the same everywhere", "part 3 of 3"]
    for view, one in zip(views, maps, strict=True):
        np.testing.assert_array_equal(view.picture, overlay(PHOTO, stretched(one)))


def test_a_map_without_a_brighter_place_is_named() -> None:
    even = np.full((4, 4), 0.9)
    nearly, spot = even + 1e-3 * np.eye(4), even + 0.01 * np.eye(4)
    assert [noted("a map", heat) for heat in (0 * even, even, nearly, spot)] == [
        *["a map, the same everywhere"] * 3,
        "a map",
    ]
