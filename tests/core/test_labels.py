"""Label sets: one text for the labels of a photo, and what it is compared by."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvus_fghash.core.labels import (
    class_names,
    comparable_labels,
    is_label_set,
    join_labels,
    label_matrix,
    number_labels,
    share_label,
    split_labels,
)
from milvus_fghash.errors import DataError

names = st.text(st.characters(exclude_characters="|", exclude_categories=("C", "Z")), min_size=1, max_size=4)


@given(st.sets(names))
def test_a_label_set_gives_its_names_back(wanted: set[str]) -> None:
    label = join_labels(wanted)
    assert set(split_labels(label)) == wanted
    assert is_label_set(label) == bool(wanted)
    assert join_labels(split_labels(label)) == label


@pytest.mark.parametrize("label", ["robin", "|", "||", "|robin", "robin|", "a|b", ""])
def test_a_class_name_is_no_set(label: str) -> None:
    assert not is_label_set(label)
    assert split_labels(label) == ((label,) if label else ())


def test_names_are_stripped_and_sorted_and_the_separator_is_rejected() -> None:
    assert join_labels([" water ", "sky", "", "sky"]) == "|sky|water|"
    with pytest.raises(DataError, match=r"'a\|b' contains '\|'.*rename it"):
        join_labels(["sky", "a|b"])


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("|sky|water|", "|sky|", True),
        ("|sky|water|", "|sand|", False),
        ("|sky|", "|skyline|", False),
        ("|sky|", "sky", True),
        ("robin", "robin", True),
        ("robin", "wren", False),
        ("", "", False),
        ("|sky|", "", False),
    ],
)
def test_sharing(first: str, second: str, shared: bool) -> None:
    assert share_label(first, second) == share_label(second, first) == shared


labels = st.lists(st.sets(st.sampled_from("abcd")).map(join_labels), min_size=1, max_size=8)


@given(labels, labels)
def test_comparable_labels_share_what_the_labels_share(first: list[str], second: list[str]) -> None:
    ours, theirs = comparable_labels(first, second)
    for (i, one), (j, other) in product(enumerate(first), enumerate(second)):
        if one and other:
            shared = (ours[i] & theirs[j]).any() if ours.ndim == 2 else ours[i] == theirs[j]
            assert shared == share_label(one, other)


def test_comparable_classes_are_numbers() -> None:
    queries, gallery = comparable_labels(["wren", "jay"], ["jay", "", "owl"])
    assert queries.tolist() == [2, 0]
    assert gallery.tolist() == [0, -1, 1]


@given(labels)
def test_numbered_label_sets_are_the_labels(given_labels: list[str]) -> None:
    classes = class_names(given_labels)
    numbers, sets = number_labels(given_labels, classes)
    assert [number < 0 for number in numbers.tolist()] == [not label for label in given_labels]
    if sets is None:
        assert not any(given_labels)
        return
    named = [label for label in given_labels if label]
    assert len(sets) == len(set(named))
    assert (sets[numbers[numbers >= 0]] == label_matrix(named, classes)).all()
    assert [join_labels(np.array(classes)[row].tolist()) for row in sets[numbers[numbers >= 0]]] == named


def test_an_unknown_label_is_named() -> None:
    for label in ("|sky|sun|", "sun"):
        with pytest.raises(DataError, match="class 'sun' is not one of the 2 known"):
            number_labels([label], ["sand", "sky"])
