"""Statistics of one bit: which photos and classes have it on, and which off."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.codes import Logits, unpack
from milvus_fghash.core.labels import split_labels
from milvus_fghash.explain.retrieval import EncodedPhotos


@dataclass(frozen=True)
class ClassFraction:
    """A class, and the fraction of its photos that have the bit on."""

    label: str
    on: float
    photos: int


@dataclass(frozen=True)
class BitFacts:
    """One bit over a gallery.

    Attributes:
        bit: from 0; bit 0 is the first of the code.
        on: fraction of the photos that have it on.
        agreement: fraction of the photos whose bit equals that of most of their class; None without classes.
        classes: by the fraction on, highest first; equal fractions by their mean bit score, then by name.
        typical_on: rows of photos with the bit on, from the highest bit score down.
        typical_off: rows of photos with the bit off, from the lowest bit score up.
        on_for: classes with more than half of their photos on: those of ``typical_on`` first, then by fraction.
        off_for: classes with more than half of their photos off, likewise.
    """

    bit: int
    on: float
    agreement: float | None
    classes: tuple[ClassFraction, ...]
    typical_on: tuple[int, ...]
    typical_off: tuple[int, ...]
    on_for: tuple[str, ...]
    off_for: tuple[str, ...]


def bit_facts(bit: int, gallery: EncodedPhotos, ids: Sequence[str], labels: Sequence[str], shown: int) -> BitFacts:
    """Measure one bit.

    Args:
        ids, labels: of all photos in the gallery's list, decoded or not; "" is no class. A photo with several labels
            counts for each of them.
        shown: number of typical photos of each side. The most extreme photo of each class comes before the second of
            any, so that a side with many classes shows many; they are then ordered by bit score, equal ones by id.
    """
    bit_scores = gallery.bit_scores[:, bit]
    on = unpack(gallery.codes, gallery.bit_scores.shape[1])[:, bit]
    of_class: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(gallery.rows.tolist()):
        for name in split_labels(labels[row]):
            of_class[name].append(place)
    shares = {label: float(on[places].mean()) for label, places in of_class.items()}
    order = sorted(of_class, key=lambda label: (-shares[label], -bit_scores[of_class[label]].mean(), label))
    agreeing = sum(max(shares[label], 1 - shares[label]) * len(of_class[label]) for label in order)
    n_labelled = sum(map(len, of_class.values()))
    typical_on = _typical(-bit_scores, on, gallery, ids, labels, shown)
    typical_off = _typical(bit_scores, ~on, gallery, ids, labels, shown)
    return BitFacts(
        bit=bit,
        on=float(on.mean()),
        agreement=agreeing / n_labelled if n_labelled else None,
        classes=tuple(ClassFraction(label, shares[label], len(of_class[label])) for label in order),
        typical_on=typical_on,
        typical_off=typical_off,
        on_for=_first(
            [name for row in typical_on for name in split_labels(labels[row])],
            [label for label in order if shares[label] > 0.5],
        ),
        off_for=_first(
            [name for row in typical_off for name in split_labels(labels[row])],
            [label for label in order[::-1] if shares[label] < 0.5],
        ),
    )


def _first(seen: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """The ``labels``, those ``seen`` first."""
    return tuple(dict.fromkeys([label for label in seen if label in labels] + list(labels)))


def _typical(
    ranks: Logits,
    side: NDArray[np.bool_],
    gallery: EncodedPhotos,
    ids: Sequence[str],
    labels: Sequence[str],
    shown: int,
) -> tuple[int, ...]:
    """Rows of the most extreme photos of one side, those with the smallest ``ranks``."""
    photos = sorted((ranks[place], ids[row], row) for place, row in enumerate(gallery.rows.tolist()) if side[place])
    turns: dict[str, int] = defaultdict(int)
    turn_of = {}
    for _, _, row in photos:
        turn_of[row] = turns[labels[row]]
        turns[labels[row]] += 1
    extreme = [row for _, _, row in photos]
    kept = set(sorted(extreme, key=turn_of.__getitem__)[:shown])  # stable: within a turn by rank
    return tuple(row for row in extreme if row in kept)
