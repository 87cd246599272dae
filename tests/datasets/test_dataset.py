"""The listing itself, and the split that is drawn where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.core.labels import join_labels
from milvus_fghash.datasets.dataset import Dataset, split_by_class
from milvus_fghash.errors import DataError


def dataset_of(labels: dict[str, str], splits: str = "") -> Dataset:
    ids = tuple(labels)
    return Dataset(
        Path("photos"), ids, tuple(f"{key}.jpg" for key in ids), tuple(labels.values()), (splits,) * len(ids)
    )


def test_rows_are_kept_in_order() -> None:
    dataset = dataset_of({"c": "jay", "a": "wren", "b": "jay"})
    taken = dataset.take([2, 0])
    assert (taken.ids, taken.paths, taken.labels) == (("b", "c"), ("b.jpg", "c.jpg"), ("jay", "jay"))
    assert dataset.classes == ("jay", "wren")
    assert dataset.file(1) == Path("photos/a.jpg")
    assert dataset.label_numbers(("wren", "jay")).tolist() == [1, 0, 1]


def test_split_that_is_not_there() -> None:
    with pytest.raises(DataError, match="Did you mean train"):
        dataset_of({"a": "jay"}, "train").split("trian")


def test_a_listing_without_splits_says_how_to_get_them() -> None:
    with pytest.raises(DataError, match=r"no photo belongs to the split 'test' in photos. It has no splits; expected"):
        dataset_of({"a": "jay"}).split("test")


def test_label_that_is_not_known() -> None:
    with pytest.raises(DataError, match=r"class 'jay' .* not one of the 1 known"):
        dataset_of({"a": "jay"}).label_numbers(("wren",))


def test_ids_must_be_unique() -> None:
    with pytest.raises(DataError, match="id 'b' occurs twice"):
        Dataset(Path("photos"), ("a", "b", "b"), ("1", "2", "3"), ("", "", ""), ("", "", ""))


def test_columns_of_one_length() -> None:
    with pytest.raises(DataError, match="differ in length"):
        Dataset(Path("photos"), ("a", "b"), ("1",), ("", ""), ("", ""))


labelled = st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.sampled_from("uvw"), min_size=1)


@given(labelled, st.floats(0.01, 0.99), st.integers(0, 5))
def test_drawn_split_is_stratified(labels: dict[str, str], fraction: float, seed: int) -> None:
    drawn = split_by_class(dataset_of(labels), fraction, seed)
    for label in drawn.classes:
        splits = [split for split, own in zip(drawn.splits, drawn.labels, strict=True) if own == label]
        in_test = splits.count("test")
        assert in_test + splits.count("train") == len(splits)
        assert abs(in_test - len(splits) * fraction) <= 1
        assert len(splits) == 1 or 1 <= in_test < len(splits)


@given(labelled, st.integers(0, 5), st.randoms())
def test_drawn_split_does_not_depend_on_the_order(labels: dict[str, str], seed: int, random: object) -> None:
    dataset = dataset_of(labels)
    turned = dataset.take(range(len(dataset) - 1, -1, -1))
    assert split_by_class(turned, 0.3, seed).splits == split_by_class(dataset, 0.3, seed).splits[::-1]


def test_a_new_photo_moves_at_most_one_other() -> None:
    before = dataset_of({f"bird {number}": "jay" for number in range(40)})
    after = dataset_of({f"bird {number}": "jay" for number in range(41)})
    old, new = split_by_class(before, 0.25, 1).splits, split_by_class(after, 0.25, 1).splits
    assert sum(was != now for was, now in zip(old, new, strict=False)) <= 1
    assert old.count("test") == 10


def test_seeds_draw_different_splits() -> None:
    dataset = dataset_of({f"bird {number}": "jay" for number in range(40)})
    assert split_by_class(dataset, 0.25, 0).splits != split_by_class(dataset, 0.25, 1).splits


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_fraction_must_leave_both_sides_something(fraction: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        split_by_class(dataset_of({"a": "jay"}), fraction, 0)


def test_a_split_by_class_of_photos_with_several_labels_goes_by_their_rarest() -> None:
    labels = {
        f"{n}": join_labels(["sky", *(["sand"] if n < 10 else []), f"only {n}" if n == 30 else "sky"])
        for n in range(40)
    }
    parted = split_by_class(dataset_of(labels), 0.2, seed=1)
    held = [row for row, split in enumerate(parted.splits) if split == "test"]
    assert sum("sand" in parted.labels[row] for row in held) == 2  # a fifth of ten
    assert len(held) == 2 + 6  # and of the 29 others; the only one of its class stays in training
    assert "30" not in {parted.ids[row] for row in held}


def test_label_matrix_names_the_origin() -> None:
    dataset = dataset_of({"a": "|sky|sun|", "b": "|sky|"})
    assert dataset.label_matrix(("sky", "sun")).tolist() == [[True, True], [True, False]]
    assert dataset.label_numbers(("sky", "sun")).tolist() == [1, 0]  # the distinct sets, sorted
    with pytest.raises(DataError, match="the class 'sun' is not one of the 1 known"):
        dataset.label_matrix(("sky",))
