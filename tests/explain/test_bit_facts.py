"""What is said of a bit, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from milvus_fghash.core.codes import pack
from milvus_fghash.explain.bit_facts import BitFacts, bit_facts
from milvus_fghash.explain.page import side_title
from milvus_fghash.explain.retrieval import EncodedPhotos

IDS = ("7", "10", "9", "a", "b", "c", "d", "e")
LABELS = ("robin", "robin", "robin", "wren", "wren", "gull", "gull", "gull")


def coded(column: list[float], rows: list[int] | None = None, bit_scores: list[float] | None = None) -> EncodedPhotos:
    """A gallery in which bit 3 of 8 has these logits, and ``bit_scores`` if it is another; the other bits are off."""
    logits, scores = np.full((2, len(column), 8), -1.0)
    logits[:, 3], scores[:, 3] = column, bit_scores or column
    return EncodedPhotos(np.array(rows if rows is not None else range(len(column))), pack(logits), scores, ())


def titles(facts: BitFacts) -> tuple[str, str]:
    return side_title(facts, "on"), side_title(facts, "off")


def test_a_bit_that_is_on_for_one_class() -> None:
    facts = bit_facts(3, coded([2, 3, 1, -1, -2, -5, -4, -3]), IDS, LABELS, shown=4)
    assert (facts.on, facts.agreement) == (3 / 8, 1.0)
    assert facts.typical_on == (1, 0, 2)  # largest first; none that is off
    assert [(one.label, one.on, one.photos) for one in facts.classes] == [
        ("robin", 1.0, 3),
        ("wren", 0.0, 2),  # off like the gulls, but by a mean of -1.5 instead of -4
        ("gull", 0.0, 3),
    ]
    assert (facts.on_for, facts.off_for) == (("robin",), ("gull", "wren"))
    assert titles(facts) == ("On for robin", "Off for gull, wren")


def test_each_class_shows_one_photo_before_any_shows_two() -> None:
    facts = bit_facts(3, coded([2, 3, 1, -1, -2, -5, -4, -3]), IDS, LABELS, shown=3)
    assert facts.typical_off == (5, 6, 4)  # gull -5 and wren -2 first, then gull -4; shown by output
    assert bit_facts(3, coded([2, 3, 1, -1, -2, -5, -4, -3]), IDS, LABELS, shown=2).typical_off == (5, 4)


def test_bit_scores_orders_the_photos_but_their_codes_tell_their_side() -> None:
    # Logits are level; "9" is on although most speaks for off, "e" off although most speaks for on
    facts = bit_facts(3, coded([1, 1, 1, -1, -1, -1, -1, -1], bit_scores=[5, 6, -9, -3, -4, -2, -1, 7]), IDS, LABELS, 9)
    assert facts.typical_on == (1, 0, 2)
    assert facts.typical_off == (4, 3, 5, 6, 7)
    assert (facts.on, facts.agreement) == (3 / 8, 1.0)
    assert [one.label for one in facts.classes] == ["robin", "gull", "wren"]  # by means of 0.7, 1.3 and -3.5


def test_equal_bit_scores_is_ordered_by_id() -> None:
    facts = bit_facts(3, coded([1, 1, 1, -1, -1, -1, -1, -1]), IDS, ("",) * 8, shown=2)
    assert facts.typical_on == (1, 0)  # "10" before "7" before "9"
    assert facts.typical_off == (3, 4)


def test_a_zero_output_is_off() -> None:
    facts = bit_facts(3, coded([0, 1, 0, -1, -1, -1, -1, -1]), IDS, LABELS, shown=9)
    assert facts.typical_on == (1,)
    assert facts.on == 1 / 8


def test_agreement_counts_photos_on_the_side_of_most_of_their_class() -> None:
    # robin 2 of 3 on, wren 1 of 2, gull 0 of 3: 2 + 1 + 3 of 8 photos
    facts = bit_facts(3, coded([1, 1, -1, 1, -1, -1, -1, -1]), IDS, LABELS, shown=1)
    assert facts.agreement == pytest.approx(6 / 8)
    assert (facts.on_for, facts.off_for) == (("robin",), ("gull",))  # wren is on neither side


def test_the_title_begins_with_the_classes_of_the_photos_below_it() -> None:
    # All classes are on in all photos but one robin; the strongest photo is a robin
    facts = bit_facts(3, coded([9, 1, -1, 5, 5, 4, 4, 4]), IDS, LABELS, shown=1)
    assert [one.label for one in facts.classes] == ["wren", "gull", "robin"]
    assert facts.on_for == ("robin", "wren", "gull")


@pytest.mark.parametrize(
    ("column", "message"), [([1.0] * 8, ("Always on", "Never off")), ([-1.0] * 8, ("Never on", "Always off"))]
)
def test_a_dead_bit(column: list[float], message: tuple[str, str]) -> None:
    facts = bit_facts(3, coded(column), IDS, LABELS, shown=6)
    assert titles(facts) == message
    assert min(len(facts.typical_on), len(facts.typical_off)) == 0


def test_without_classes_there_is_nothing_to_agree_on() -> None:
    facts = bit_facts(3, coded([1, 1, -1, -1, -1, -1, -1, -1]), IDS, ("",) * 8, shown=1)
    assert (facts.agreement, facts.classes) == (None, ())
    assert titles(facts) == ("On in 25% of the photos", "Off in 75% of the photos")


def test_rejected_photos_are_skipped_not_shifted() -> None:
    facts = bit_facts(3, coded([1, -2, -1], rows=[2, 4, 7]), IDS, LABELS, shown=2)
    assert (facts.typical_on, facts.typical_off) == ((2,), (4, 7))
    assert {one.label for one in facts.classes} == {"robin", "wren", "gull"}
    equal = bit_facts(3, coded([1, 1, -1], rows=[1, 2, 7]), IDS, LABELS, shown=2)
    assert equal.typical_on == (1, 2)  # "10" before "9"; their places are those of "7" and "10"


def test_a_long_side_names_three_classes_and_counts_the_rest() -> None:
    labels = tuple("abcdefgh")
    facts = bit_facts(3, coded([8, 7, 6, 5, 4, 3, 2, -1]), IDS, labels, shown=2)
    assert titles(facts) == ("On for a, b, c and 4 more", "Off for h")
