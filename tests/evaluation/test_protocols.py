"""Protocols against the definitions of each, photo by photo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.evaluation.protocols import (
    PROTOCOLS,
    ProtocolOptions,
    ProtocolSplit,
    draw_classes,
    fold_splits,
    protocol_splits,
)

CLASSES, SPLITS = [f"class {n}" for n in range(5)], ("train", "test", "val", "")
# 5 classes, each with 6 training and 4 test photos and some of other splits; and photos without a class
LABELS = tuple(name for name in CLASSES for _ in range(12)) + ("",) * 4
OF_EACH_CLASS = (*("train",) * 6, *("test",) * 4, "val", "")
SPLIT_OF = (*OF_EACH_CLASS * len(CLASSES), "train", "test", "test", "val")


def rows(split: str, classes: frozenset[str]) -> set[int]:
    return {row for row, label in enumerate(LABELS) if SPLIT_OF[row] == split and label in classes}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_every_protocol_is_its_definition(name: str, share: float) -> None:
    splits = protocol_splits(name, LABELS, SPLIT_OF, ProtocolOptions(new_classes=share, draw=3))
    everything, drawn = frozenset({*CLASSES, ""}), splits[0].new_classes
    known = everything - drawn - {""}
    named = frozenset(CLASSES)
    if name in {"A", "B"}:
        assert drawn == frozenset()
    elif name.startswith("D"):
        assert drawn == named
    else:
        assert len(drawn) == (1 if share == 0.2 else 2)  # round(2.5) is 2
    nameless = rows("train", frozenset({""}))
    fitted = {
        "A": (rows("train", named), nameless),
        "B": (rows("train", named), nameless),
        "C": (rows("train", known), nameless),
        "D": (set(), rows("train", everything)),
        "D-fitted": (set(), rows("train", everything)),
    }.get(name, (rows("train", known), rows("train", drawn | {""})))
    asking = {"A": named, "B": named, "D": named, "D-fitted": named, "Mk": known}.get(name, drawn)
    stored = {"C": rows("train", drawn), "E": rows("train", drawn)}.get(name, rows("train", everything))
    held_out = {"B": rows("test", everything), "D": rows("test", everything), "E2": rows("test", drawn)}.get(name)
    for split in splits:
        assert split.protocol == name
        assert (set(split.labelled.tolist()), set(split.unlabelled.tolist())) == fitted
        if held_out is None:
            assert set(split.gallery.tolist()) == stored
            assert set(split.queries.tolist()) == rows("test", asking)
            assert split.own_rows is None
        else:
            assert not set(split.gallery.tolist()) & set(split.queries.tolist())
            assert set(split.gallery.tolist()) < held_out
    assert len(splits) == (1 if held_out is None else 2)
    if held_out is not None:  # each half asks once
        assert sorted(row for split in splits for row in split.queries.tolist()) == sorted(rows("test", asking))
        assert set(splits[0].gallery.tolist()) | set(splits[1].gallery.tolist()) == held_out


def photos_that_must_not_be_fitted(split: ProtocolSplit) -> set[int]:
    return set(split.queries.tolist()) | (
        set(split.gallery.tolist()) if split.protocol in {"B", "C", "D", "E2"} else set()
    )


@given(
    st.lists(st.tuples(st.sampled_from([*CLASSES, ""]), st.sampled_from(SPLITS)), min_size=5, max_size=60),
    st.sampled_from(sorted(PROTOCOLS)),
    st.floats(0.01, 0.99),
    st.integers(0, 9),
    st.floats(0.05, 1),
    st.integers(1, 4),
)
@settings(deadline=None)
def test_no_fit_photo_asks_and_no_label_of_a_new_class_is_used(
    photos: list[tuple[str, str]], name: str, share: float, draw: int, labelled: float, parts: int
) -> None:
    labels, splits = zip(*photos, strict=True)
    options = ProtocolOptions(new_classes=share, draw=draw, labelled=labelled, parts=parts)
    try:
        found = protocol_splits(name, labels, splits, options)
    except DataError:
        return
    for split in found:
        fitted = set(split.labelled.tolist()) | set(split.unlabelled.tolist())
        assert not set(split.labelled.tolist()) & set(split.unlabelled.tolist())
        assert {splits[row] for row in fitted} == {"train"}
        assert {splits[row] for row in split.queries.tolist()} == {"test"}
        assert not fitted & photos_that_must_not_be_fitted(split)
        assert not {labels[row] for row in split.labelled.tolist()} & (split.new_classes | {""})
        assert "" not in {labels[row] for row in split.queries.tolist()}


def test_a_share_of_labels_leaves_each_class_its_share() -> None:
    (split,) = protocol_splits("E", LABELS, SPLIT_OF, ProtocolOptions(labelled=0.5, draw=1))
    kept = [LABELS[row] for row in split.labelled.tolist()]
    assert {kept.count(name) for name in set(kept)} == {3}
    assert len(split.labelled) + len(split.unlabelled) == 6 * 5 + 1
    (strict,) = protocol_splits("C", LABELS, SPLIT_OF, ProtocolOptions(labelled=0.5, draw=1))
    assert not {LABELS[row] for row in strict.unlabelled.tolist()} & strict.new_classes


def test_leave_one_out_says_which_photo_is_the_query_itself() -> None:
    (split,) = protocol_splits("B", LABELS, SPLIT_OF, ProtocolOptions(parts=1))
    assert len(split.gallery) == len(split.queries) + 2  # the two without a class are found, but do not ask
    assert split.own_rows is not None
    assert (split.gallery[split.own_rows] == split.queries).all()


def test_parts_are_even_in_each_class_and_together() -> None:
    labels = [name for name, count in (("a", 7), ("b", 1), ("c", 1), ("d", 1)) for _ in range(count)]
    folds = [fold_splits(labels, 3, fold, seed=5) for fold in range(3)]
    assert sorted(fold.count("test") for fold in folds) == [3, 3, 4]
    for fold in folds:
        assert [split for split, label in zip(fold, labels, strict=True) if label == "a"].count("test") in {2, 3}
    assert all(column.count("test") == 1 for column in zip(*folds, strict=True))
    assert folds[0] != fold_splits(labels, 3, 0, seed=6)


def test_a_smaller_share_draws_a_part_of_the_classes_of_a_larger_one() -> None:
    assert set(draw_classes(CLASSES, 0.2, 7)) < set(draw_classes(CLASSES, 0.6, 7))
    assert len({tuple(draw_classes(CLASSES, 0.4, draw)) for draw in range(20)}) > 5
    assert len(draw_classes(CLASSES, 0.01, 0)) == 1
    assert len(draw_classes(CLASSES, 0.99, 0)) == 4


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="no protocol 'Z'"):
        protocol_splits("Z", LABELS, SPLIT_OF)
    with pytest.raises(DataError, match="finds no query photo"):
        protocol_splits("A", LABELS, ["train"] * len(LABELS))
    with pytest.raises(DataError, match="at least two classes, found 1"):
        protocol_splits("A", ["a"] * 3, ["train", "test", "test"])
    with pytest.raises(DataError, match="2 parts"):
        protocol_splits("B", ["a", "b", "a"], ["train", "train", "test"])
    with pytest.raises(ConfigError, match="share of new classes"):
        ProtocolOptions(new_classes=1.0)
    with pytest.raises(ConfigError, match="both fit and test"):
        ProtocolOptions(fit_split="train,test")
    with pytest.raises(ConfigError, match="no fold 3 of 3"):
        fold_splits(LABELS, 3, 3)


def test_several_splits_are_one_set() -> None:
    (split,) = protocol_splits("A", LABELS, SPLIT_OF, ProtocolOptions(fit_split="train,val"))
    assert {SPLIT_OF[row] for row in split.gallery.tolist()} == {"train", "val"}
    assert np.all(np.diff(split.gallery) > 0)


def test_a_photo_with_a_new_label_is_new_whatever_its_other_labels() -> None:
    labels = [f"|{name}|" for name in ("a", "b", "c", "d")] * 3 + ["|a|b|", "|c|d|", "|a|c|"] * 2
    splits = ["train"] * 4 + ["test"] * 4 + ["train"] * 4 + ["train", "test"] * 3
    (split,) = protocol_splits("C", labels, splits, ProtocolOptions(parts=1, new_classes=0.5))
    assert len(split.new_classes) == 2
    known = {row for row, label in enumerate(labels) if split.new_classes.isdisjoint(label.split("|"))}
    assert known.issuperset(split.labelled.tolist())
    assert known.isdisjoint(split.queries.tolist())
    assert known.isdisjoint(split.gallery.tolist())
