"""Evaluation protocols by name: which photos a method is fitted on, which are the gallery, and which are queries.

Papers report protocol A, whose gallery is the labelled training photos. The others measure what a catalog needs: new
photos (B), new classes (C), photos without labels (D), and photos that are fitted on without their labels (E, M).
Everything is an index set over the photos of one dataset, so training, evaluation and benchmarks share the definition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.labels import class_names, split_labels
from milvus_fghash.datasets.dataset import split_names
from milvus_fghash.errors import ConfigError, DataError, nearest

Rows = NDArray[np.int64]
Classes = Literal["all", "known", "new"]


@dataclass(frozen=True)
class Protocol:
    """Definition of a protocol in terms of fit photos (one split), test photos (another one), known and new classes.

    Attributes:
        title: the gallery in words, for tables.
        meaning: what the figures tell.
        uses_labels: whether a method is fitted with labels.
        draws_classes: whether a share of the classes is new: no label of these is used.
        fits_new_classes: whether the fit photos of the new classes are fitted on, without labels.
        gallery: the fit photos, or those test photos that are not queries.
        gallery_classes, query_classes: classes of the gallery and of the queries.
    """

    title: str
    meaning: str
    uses_labels: bool = True
    draws_classes: bool = False
    fits_new_classes: bool = False
    gallery: Literal["fit", "test"] = "fit"
    gallery_classes: Classes = "all"
    query_classes: Classes = "all"


PROTOCOLS: Final[dict[str, Protocol]] = {
    "A": Protocol("trained photos", "the gallery is the labelled training photos, as papers report"),
    "B": Protocol("new photos", "known classes, photos that training did not see: a growing catalog", gallery="test"),
    "C": Protocol(
        "new classes",
        "classes that training did not see: a catalog whose classes change",
        draws_classes=True,
        gallery_classes="new",
        query_classes="new",
    ),
    "D": Protocol(
        "no labels, new photos", "fitted without labels; the gallery of B", uses_labels=False, gallery="test"
    ),
    "D-fitted": Protocol("no labels, fitted photos", "fitted without labels; the gallery of A", uses_labels=False),
    "E": Protocol(
        "new classes, fitted without labels",
        "the photos of new classes are fitted on without labels, and are the gallery",
        draws_classes=True,
        fits_new_classes=True,
        gallery_classes="new",
        query_classes="new",
    ),
    "E2": Protocol(
        "new photos of classes fitted without labels",
        "as E, but gallery and queries are photos that were not fitted on",
        draws_classes=True,
        fits_new_classes=True,
        gallery="test",
        gallery_classes="new",
        query_classes="new",
    ),
    "Mk": Protocol(
        "mixed catalog, queries of known classes",
        "the gallery is the labelled photos of known and the unlabelled ones of new classes; queries of known classes",
        draws_classes=True,
        fits_new_classes=True,
        query_classes="known",
    ),
    "Mn": Protocol(
        "mixed catalog, queries of new classes",
        "the gallery of Mk; queries of new classes",
        draws_classes=True,
        fits_new_classes=True,
        query_classes="new",
    ),
}
"""The protocols by name; `gallery` and `query_classes` are the whole difference between many of them."""


@dataclass(frozen=True)
class ProtocolOptions:
    """What a protocol leaves open.

    Attributes:
        fit_split, query_split: splits of the fit photos and of the test photos; several are separated by commas.
        new_classes: share of the classes that are new (C, E, E2, M), more than 0 and less than 1.
        draw: seed of the draw of new classes; a smaller share draws a part of the classes of a larger one.
        labelled: share of each known class's fit photos that keep their label; the others are fitted on without it.
        parts: number of parts of the test photos where these are the gallery too (B, D, E2); each part is the
            queries once, and the others the gallery. 1 is leave-one-out: each photo is a query against all others.
        seed: seed of the parts and of the labels that are kept.
    """

    fit_split: str = "train"
    query_split: str = "test"
    new_classes: float = 0.5
    draw: int = 0
    labelled: float = 1.0
    parts: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.new_classes < 1:
            raise ConfigError(
                f"the share of new classes must lie between 0 and 1, got {self.new_classes}", setting="new_classes"
            )
        if not 0 < self.labelled <= 1:
            raise ConfigError(
                f"the share of labelled photos must be more than 0 and at most 1, got {self.labelled}",
            )
        if self.parts < 1:
            raise ConfigError(f"the number of parts must be at least 1, got {self.parts}")
        if both := set(split_names(self.fit_split)) & set(split_names(self.query_split)):
            raise ConfigError(
                f"the split {min(both)!r} is used for both fit and test photos; choose different splits",
                setting="query_split",
            )


@dataclass(frozen=True)
class ProtocolSplit:
    """The photos of one protocol, as positions in the dataset, each ascending.

    Splits of one protocol that differ only in ``part`` have the same fit photos, so one training serves them all.

    Attributes:
        protocol: key of `PROTOCOLS`.
        part: number of the part whose photos are the queries, from 0.
        labelled: (n,) int64, photos that are fitted on with their labels; empty in D.
        unlabelled: (n,) int64, photos that are fitted on without labels.
        gallery: (n,) int64.
        queries: (n,) int64; all have a class.
        new_classes: names of the classes of which no label is used; all classes in D.
    """

    protocol: str
    part: int
    labelled: Rows
    unlabelled: Rows
    gallery: Rows
    queries: Rows
    new_classes: frozenset[str]

    @property
    def own_rows(self) -> Rows | None:
        """(n_queries,) position in ``gallery`` of each query itself, for leave-one-out; None when no query is in it."""
        place = np.minimum(np.searchsorted(self.gallery, self.queries), len(self.gallery) - 1)
        found = self.gallery[place] == self.queries
        return np.where(found, place, -1) if found.any() else None


def check_protocols(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, if each is a protocol.

    Raises:
        ConfigError: otherwise.
    """
    for name in names:
        if name not in PROTOCOLS:
            raise ConfigError(f"there is no protocol {name!r}. {nearest(name, PROTOCOLS)}")
    return tuple(names)


def protocol_splits(
    name: str, labels: Sequence[str], splits: Sequence[str], options: ProtocolOptions | None = None
) -> tuple[ProtocolSplit, ...]:
    """The index sets of a protocol: one split, or one for each part of the test photos where these are the gallery.

    Photos without a class are fitted on without labels and may be in the gallery; they are never queries.

    Args:
        name: key of `PROTOCOLS`.
        labels: (n,) class names; "" for a photo without a class.
        splits: (n,) names of splits; `fold_splits` makes them for a dataset that has none.
        options: what the protocol leaves open.

    Raises:
        ConfigError: for an unknown protocol.
        DataError: when there are fewer than two classes, or one of the sets is empty.
    """
    (name,), options = check_protocols([name]), options or ProtocolOptions()
    protocol, names, split = PROTOCOLS[name], np.array(labels, object), np.array(splits, object)
    if len(names) != len(split):
        raise DataError(f"{len(names)} labels have {len(split)} splits; each photo needs one of each")
    classes = class_names(labels)
    if len(classes) < 2:
        raise DataError(f"protocol {name} needs photos of at least two classes, found {len(classes)}")
    drawn = frozenset(draw_classes(classes, options.new_classes, options.draw) if protocol.draws_classes else ())
    has_label = names != ""
    is_new = np.array([not drawn.isdisjoint(split_labels(label)) for label in labels])  # one new label is enough
    fit, test = (np.isin(split, split_names(of)) for of in (options.fit_split, options.query_split))
    of_classes = {"all": np.ones(len(names), bool), "known": ~is_new, "new": is_new}
    candidates = fit & has_label & ~is_new & protocol.uses_labels
    labelled = _spread(names, candidates, options.labelled, options.seed)
    unlabelled = fit & ~labelled & (~is_new | protocol.fits_new_classes)
    asking = test & has_label & of_classes[protocol.query_classes]
    stored = (fit if protocol.gallery == "fit" else test) & of_classes[protocol.gallery_classes]
    sets = {"gallery": stored, "query": asking, "fit": labelled | unlabelled}
    if protocol.uses_labels:
        sets["labelled fit"] = labelled
    for kind, chosen in sets.items():
        if not chosen.any():
            raise DataError(
                f"protocol {name} finds no {kind} photo among {int(fit.sum()):,} photos of the split "
                f"{options.fit_split!r} and {int(test.sum()):,} of {options.query_split!r}; choose other splits, or "
                "draw a train/test split"
            )
    without = drawn if protocol.uses_labels else frozenset(classes)
    parts = [(stored, asking)] if protocol.gallery == "fit" else _parts(names, stored, asking, options)
    return tuple(
        ProtocolSplit(
            protocol=name,
            part=part,
            labelled=np.flatnonzero(labelled),
            unlabelled=np.flatnonzero(unlabelled),
            gallery=np.flatnonzero(gallery),
            queries=np.flatnonzero(queries),
            new_classes=without,
        )
        for part, (gallery, queries) in enumerate(parts)
    )


def draw_classes(classes: Sequence[str], share: float, draw: int) -> list[str]:
    """The drawn share of the classes, rounded, at least one and not all, for the order of ``classes``."""
    order = np.random.default_rng(draw).permutation(len(classes))
    count = min(max(round(len(classes) * share), 1), len(classes) - 1)
    return [classes[place] for place in order[:count]]


def fold_splits(labels: Sequence[str], folds: int, fold: int, seed: int = 0) -> tuple[str, ...]:
    """Splits of a dataset that has none: "test" for one fold of the photos, "train" for the others, class by class.

    Each photo is a test photo in one of the folds. A class of fewer photos than folds has no test photo in some folds.

    Raises:
        ConfigError: when there are fewer than two folds, or no such fold.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise ConfigError(f"there is no fold {fold} of {folds}; expected at least 2 folds, numbered from 0")
    names = np.array(labels, object)
    numbers = _part_numbers(names, np.ones(len(names), bool), folds, seed)
    return tuple("test" if number == fold else "train" for number in numbers.tolist())


def _parts(
    names: NDArray[Any], stored: NDArray[np.bool_], asking: NDArray[np.bool_], options: ProtocolOptions
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    if options.parts == 1:
        yield stored, asking
        return
    numbers = _part_numbers(names, stored, options.parts, options.seed)
    for part in range(options.parts):
        gallery, queries = stored & (numbers != part), asking & (numbers == part)
        if not gallery.any() or not queries.any():
            raise DataError(
                f"{int(stored.sum())} photos do not divide into {options.parts} parts that each hold a query; choose "
                "fewer parts",
            )
        yield gallery, queries


def _part_numbers(names: NDArray[Any], chosen: NDArray[np.bool_], parts: int, seed: int) -> NDArray[np.int64]:
    """(n,) part of each chosen photo, -1 for the others; each class is spread evenly, and so are all together."""
    rows = np.flatnonzero(chosen)
    shuffled = np.random.default_rng(seed).permutation(rows)
    by_class = shuffled[np.argsort(names[shuffled].astype(str), kind="stable")]
    numbers = np.full(len(names), -1)
    numbers[by_class] = np.arange(len(rows)) % parts  # runs on from class to class, so small classes spread too
    return numbers


def _spread(names: NDArray[Any], chosen: NDArray[np.bool_], share: float, seed: int) -> NDArray[np.bool_]:
    """A share of the chosen photos of each class, rounded, at least one."""
    if share == 1:
        return chosen
    kept = np.zeros(len(names), bool)
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(chosen))
    for name in sorted(set(names[shuffled].tolist())):
        rows = shuffled[names[shuffled] == name]
        kept[rows[: max(round(len(rows) * share), 1)]] = True
    return kept
