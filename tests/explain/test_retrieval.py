"""Hits against distances counted by hand, and against a slow reading of the rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from milvus_fghash.core.codes import pack
from milvus_fghash.explain.retrieval import EncodedPhotos, encode, nearest
from tests.helpers.planted_models import BITS, Planted, signs_of, write_photos


def gallery(*codes: str, rows: list[int] | None = None) -> EncodedPhotos:
    logits = np.array([signs_of(code) for code in codes])
    return EncodedPhotos(np.array(rows if rows is not None else range(len(codes))), pack(logits), logits, ())


def test_hits_stand_by_distance_then_by_id() -> None:
    stored = gallery("11110000", "11111111", "11110001", "11100000", "11110011")
    found = nearest(pack(np.array([signs_of("11110000")])), stored, ("a", "b", "9", "10", "c"), k=4)
    assert [(hit.row, hit.distance) for hit in found.photos] == [(0, 0), (3, 1), (2, 1), (4, 2)]  # "10" before "9"
    assert found.ties_left_out == 0


def test_what_is_cut_off_at_the_last_distance_is_counted() -> None:
    stored = gallery("11110000", "11110001", "11100000", "11110100", "00000000")
    found = nearest(pack(np.array([signs_of("11110000")])), stored, tuple("abcde"), k=2)
    assert [hit.row for hit in found.photos] == [0, 1]
    assert found.ties_left_out == 2


def test_a_query_does_not_find_itself() -> None:
    stored = gallery("11110000", "11110001", "11110000")
    query = pack(np.array([signs_of("11110000")]))
    assert [hit.row for hit in nearest(query, stored, tuple("abc"), k=9, own_id="a").photos] == [2, 1]
    assert nearest(query, gallery("11110000"), ("a",), k=9, own_id="a").photos == ()


def test_rows_are_those_of_the_list_not_of_the_codes() -> None:
    found = nearest(pack(np.array([signs_of("11110000")])), gallery("00000000", "11110000", rows=[1, 4]), "abcde", k=1)
    assert found.photos[0].row == 4


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=12), st.integers(1, 12), st.integers(0, 7))
def test_the_rule_read_slowly(codes: list[int], k: int, asked: int) -> None:
    ids = tuple(f"{7 * row % 12}" for row in range(len(codes)))
    texts = [f"{code:08b}" for code in codes]
    query = f"{asked:08b}"
    found = nearest(pack(np.array([signs_of(query)])), gallery(*texts), ids, k)
    ranked = sorted(
        (sum(a != b for a, b in zip(query, text, strict=True)), ids[row], row) for row, text in enumerate(texts)
    )
    assert [(hit.distance, hit.row) for hit in found.photos] == [(distance, row) for distance, _, row in ranked[:k]]
    kept = len(found.photos)
    assert found.ties_left_out == sum(distance == ranked[kept - 1][0] for distance, _, _ in ranked[kept:])


def test_photos_that_cannot_be_decoded_are_listed_and_the_rest_is_told_of(tmp_path: Path) -> None:
    dataset = write_photos(tmp_path, [(number, str(number), "", "") for number in range(12)])
    (tmp_path / "3.png").write_bytes(b"no photo")
    (tmp_path / "5.png").unlink()
    model = Planted({number: [number + 1.0] * BITS for number in range(12)})
    progress: list[tuple[int, int]] = []
    coded = encode(model, [dataset.file(row) for row in range(12)], lambda done, total: progress.append((done, total)))
    assert coded.rows.tolist() == [0, 1, 2, 4, 6, 7, 8, 9, 10, 11]
    assert coded.bit_scores[:, 0].tolist() == [1, 2, 3, 5, 7, 8, 9, 10, 11, 12]
    assert [(one.row, one.reason) for one in coded.rejected] == [(3, "format"), (5, "missing")]
    assert progress[-1] == (12, 12)
