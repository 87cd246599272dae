"""Pictures pixel by pixel."""

from __future__ import annotations

import io
import itertools

import numpy as np
from PIL import Image

from milvus_fghash.explain.pictures import (
    FONT_SIZE,
    OUTLINE,
    RIGHT,
    SCALE,
    TILE,
    WRONG,
    erased,
    montage,
    overlay,
    png,
    positive,
    stretched,
    thumbnail,
)

GREY = np.full((40, 40, 3), 100, np.uint8)


def test_heat_is_stretched_or_cut_at_zero() -> None:
    heat = np.array([[-2.0, 0.0], [1.0, 2.0]])
    assert stretched(heat).tolist() == [[0, 0.5], [0.75, 1]]
    assert positive(heat).tolist() == [[0, 0], [0.5, 1]]
    assert not positive(-np.ones((2, 2))).any()
    assert not stretched(np.full((2, 2), 7.0)).any()


def test_cold_and_hot_places_have_the_ends_of_the_scale() -> None:
    heat = np.zeros((40, 40))
    heat[10, 30] = 1.0
    picture = overlay(GREY, heat)
    assert picture.shape == GREY.shape
    for place, colour in (((0, 0), SCALE[0]), ((10, 30), SCALE[-1])):
        assert picture[place].tolist() == [round(0.45 * 100 + 0.55 * channel) for channel in colour]


def test_a_small_map_is_laid_over_the_whole_photo_the_right_way_up() -> None:
    bright = overlay(GREY, np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])).sum(axis=2)
    assert np.unravel_index(bright.argmax(), bright.shape) >= (30, 0)
    assert bright[39, 0] > bright[39, 39]
    assert bright[39, 0] > bright[0, 0]


def test_brightness_rises_with_heat() -> None:
    colours = overlay(GREY[:1, :40], np.linspace(0, 1, 40)[None])
    luma = np.asarray(Image.fromarray(colours).convert("L"), int)[0]
    assert (np.diff(luma) >= 0).all()


def test_an_erased_region_is_filled_and_outlined_and_nothing_else_changes() -> None:
    kept = np.ones((40, 40), bool)
    kept[10:20, 30:] = False
    picture = erased(GREY, kept, (1, 2, 3))
    assert (picture[kept] == 100).all()
    assert (picture[12:18, 32:38] == (1, 2, 3)).all()
    for edge in (picture[10:12, 30:], picture[18:20, 30:], picture[10:20, 30:32]):
        assert (edge == OUTLINE).all()


def test_frames_tell_hits_apart() -> None:
    sheet = np.asarray(montage([[(GREY, None), (GREY, RIGHT), (GREY, WRONG)], [(GREY, None)]]))
    middle = 8 + 5 + TILE // 2
    line = [tuple(pixel) for pixel in sheet[middle].tolist()]
    runs = [line[0], *(now for before, now in itertools.pairwise(line) if now != before)]
    grey, white = (100, 100, 100), (255, 255, 255)
    assert runs == [white, grey, white, RIGHT, grey, RIGHT, white, WRONG, grey, WRONG, white]
    assert tuple(sheet[-middle, middle]) == grey


def test_the_first_of_a_row_can_stand_apart() -> None:
    row = [(GREY, RIGHT), (GREY, RIGHT), (GREY, RIGHT)]
    edges = [np.asarray(montage([row], first_apart=first_apart))[8 + 2] for first_apart in (False, True)]
    starts = [np.flatnonzero(np.diff((edge == RIGHT).all(axis=1).astype(int)) == 1) + 1 for edge in edges]
    assert np.diff(starts[0]).tolist() == [TILE + 18, TILE + 18]
    assert np.diff(starts[1]).tolist() == [TILE + 34, TILE + 18]
    assert len(edges[1]) == len(edges[0]) + 16


def test_rows_have_their_names_above_them_and_room_for_long_ones() -> None:
    rows, plain = [[(GREY, RIGHT)], [(GREY, RIGHT)]], np.asarray(montage([[(GREY, RIGHT)]]))
    sheet = np.asarray(montage(rows, names=("one", "another of many words, wider than its photo")))
    height = FONT_SIZE + 8 + TILE + 18
    assert sheet.shape[0] == 2 * height + 8
    assert sheet.shape[1] > plain.shape[1]
    assert (sheet[:, -8:] == 255).all()
    words = [sheet[8 + top : 8 + top + FONT_SIZE + 4] for top in (0, height)]
    ends = [np.flatnonzero((line < 128).any(axis=(0, 2))).max() for line in words]
    assert 8 < ends[0] < ends[1]
    assert [ends[1] > plain.shape[1], ends[0] > plain.shape[1]] == [True, False]
    for top in (0, height):
        np.testing.assert_array_equal(sheet[8 + top + FONT_SIZE + 8 :][: TILE + 10, : plain.shape[1]], plain[8:-8])


def test_names_of_rows_may_hold_anything() -> None:
    sheets = [np.asarray(montage([[(GREY, None)]], names=[name])) for name in ("a b", "a\nb", "\udce9\u732b")]
    np.testing.assert_array_equal(sheets[0], sheets[1])
    assert (sheets[2] < 128).any(axis=(0, 2)).any()
    shown, meant = (np.asarray(montage([[(GREY, None)]], names=[name])) for name in ("a\x1b\u202eb", r"a\x1b\u202eb"))
    np.testing.assert_array_equal(shown, meant)


def test_files_decode_to_what_was_given() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(noise)))), noise)
    with Image.open(io.BytesIO(thumbnail(noise, 20))) as small:
        assert (small.format, small.size) == ("JPEG", (20, 20))
