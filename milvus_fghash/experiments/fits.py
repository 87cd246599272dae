"""The photos that the trainings of a grid are fitted on, and the galleries that each fit is measured on.

Protocols that fit on the same photos share their trainings: A and B; D and D-fitted; of one draw of new classes E, E2,
Mk and Mn. C has a fit of its own. `evaluation.protocols` defines them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from milvus_fghash.core.labels import class_names
from milvus_fghash.datasets.dataset import Dataset, split_by_class, split_names
from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.evaluation.protocols import (
    PROTOCOLS,
    Protocol,
    ProtocolOptions,
    ProtocolSplit,
    Rows,
    check_protocols,
    protocol_splits,
)
from milvus_fghash.methods import METHODS, card

Phase = Literal["test", "trial"]
"""Trials choose the learning rates; test is the training and evaluation of the cells."""
DEFAULT_PROTOCOLS = ("A", "B")


@dataclass(frozen=True)
class Split:
    """The photos of one phase of a fit."""

    fitted: Dataset
    """Trained on; those that the protocol fits on without labels have none here."""
    others: Dataset
    """Not trained on: queries, and photos of galleries."""
    labels: tuple[str, ...]
    """Classes of the fitted photos, all of them, and then of the others."""
    searches: dict[str, ProtocolSplit]
    """Protocol -> its gallery and its queries, as positions in ``labels``."""


@dataclass(frozen=True)
class Fit:
    """Photos that trainings are fitted on."""

    protocols: tuple[str, ...] = DEFAULT_PROTOCOLS
    """Those that are measured after a training, asked for or not."""
    options: ProtocolOptions = field(default_factory=lambda: ProtocolOptions(parts=1))

    @property
    def _first(self) -> Protocol:
        """Any of the protocols: they fit on the same photos."""
        return PROTOCOLS[self.protocols[0]]

    @property
    def uses_labels(self) -> bool:
        return self._first.uses_labels

    @property
    def draw(self) -> int | None:
        """Number of the draw of new classes."""
        return self.options.draw if self._first.draws_classes else None

    @property
    def name(self) -> str:
        """For file names; "" for the fit of all photos with their labels, as papers report it."""
        if not self._first.uses_labels:
            return "no-labels"
        if not self._first.draws_classes:
            return ""
        kind = "unlabelled-new-classes" if self._first.fits_new_classes else "new-classes"
        return f"{kind}-{self.options.new_classes:g}-draw{self.options.draw}"

    def can_train(self, method: str) -> bool:
        """Whether a method can be fitted on photos without labels, where the protocols have some."""
        all_labelled = self._first.uses_labels and not self._first.fits_new_classes
        return all_labelled or not card(method).labels or card(method).unlabelled


ALL_LABELLED = Fit()
"""Protocols A and B."""


def fits(protocols: Sequence[str], new_classes: float = 0.5, draws: int = 1) -> tuple[Fit, ...]:
    """The fits that protocols need, each once; one for each draw where classes are drawn.

    Raises:
        ConfigError: for an unknown protocol, or a share of new classes that is not between 0 and 1.
    """
    asked = check_protocols(protocols)
    found: dict[tuple[str, ...], None] = {}
    for name in asked:
        found[tuple(one for one in PROTOCOLS if _photos_of(one) == _photos_of(name))] = None
    # The labelled photos first, as the plots of losses and times are of the first fit.
    shared = sorted(found, key=lambda names: list(PROTOCOLS).index(names[0]))
    return tuple(
        Fit(names, ProtocolOptions(new_classes=new_classes, draw=draw, parts=1))
        for names in shared
        for draw in range(draws if PROTOCOLS[names[0]].draws_classes else 1)
    )


def check_methods(fit: Fit, methods: Iterable[str]) -> None:
    """Check that some method can be fitted.

    Raises:
        ConfigError: otherwise.
    """
    if not any(fit.can_train(method) for method in methods):
        able = ", ".join(method for method in METHODS if fit.can_train(method))
        raise ConfigError(
            f"the protocols {', '.join(fit.protocols)} fit on photos without labels, which none of the methods can; "
            f"choose one of {able}",
            setting="methods",
        )


def split_dataset(
    dataset: Dataset, train_split: str, query_split: str, held_out: float, fit: Fit = ALL_LABELLED
) -> dict[Phase, Split]:
    """The photos of a fit.

    Args:
        dataset: all photos.
        train_split: the photos to fit on.
        query_split: the queries, which are also the gallery of protocols for new photos, each among all others.
        held_out: fraction of the labelled photos to fit on that serves as queries of the trials, drawn by class; 0, and
            without labels: no trials.
        fit: the protocols.

    Raises:
        DataError: when a split is empty, both are the same, a query has no class, or there are fewer than two classes.
    """
    if both := set(split_names(query_split)) & set(split_names(train_split)):
        raise DataError(
            f"the split {min(both)!r} is used both for training and for queries; choose another split for the queries",
            setting="query_split",
        )
    queries, known = dataset.split(query_split), dataset.split(train_split)
    if len(found := class_names(known.labels)) < 2:
        source = dataset.read_report.classes
        what = f"are all of one class ({found[0]!r}{source and f', {source}'})" if found else "have no class"
        raise DataError(
            f"the {len(known)} photos of {train_split!r} in {dataset.origin} {what}; expected at least two classes"
        )
    unlabelled = sum(not label for label in queries.labels)
    if unlabelled:
        raise DataError(
            f"{unlabelled} of {len(queries)} photos of {query_split!r} have no class; every query needs one"
        )
    options = replace(fit.options, fit_split=train_split, query_split=query_split)
    searches = {name: protocol_splits(name, dataset.labels, dataset.splits, options)[0] for name in fit.protocols}
    splits: dict[Phase, Split] = {"test": _split(dataset, searches)}
    if not held_out or not fit.uses_labels:
        return splits
    fitted = splits["test"].fitted
    held = [row for row, split in enumerate(split_by_class(fitted, held_out, 0).splits) if split == "test"]
    asking = np.array([row for row in held if fitted.labels[row]], np.int64)
    if not len(asking):
        raise DataError(
            "each class has a single training photo, so none can be held out to choose a learning rate; expected at "
            "least two photos in one class"
        )
    rest = np.setdiff1d(np.arange(len(fitted)), asking)
    has_label = np.array([bool(fitted.labels[row]) for row in rest.tolist()])
    trial = ProtocolSplit("A", 0, rest[has_label], rest[~has_label], rest, asking, frozenset())
    splits["trial"] = _split(fitted, {"A": trial})
    return splits


def _photos_of(protocol: str) -> tuple[bool, bool, bool]:
    """What decides which photos a protocol fits on."""
    one = PROTOCOLS[protocol]
    return one.uses_labels, one.draws_classes, one.fits_new_classes


def _split(dataset: Dataset, searches: dict[str, ProtocolSplit]) -> Split:
    """The photos that the protocols use: those to fit on, then the others."""
    first = next(iter(searches.values()))
    fitted = np.sort(np.concatenate([first.labelled, first.unlabelled]))
    used = np.unique(np.concatenate(list(_searched(searches.values()))))
    rows = np.concatenate([fitted, np.setdiff1d(used, fitted)])
    place = np.full(len(dataset), -1)
    place[rows] = np.arange(len(rows))
    photos = _without_splits(dataset.take(rows.tolist()))
    given = set(first.labelled.tolist())
    labels = tuple(photos.labels[at] if row in given else "" for at, row in enumerate(fitted.tolist()))
    return Split(
        fitted=replace(photos.take(range(len(fitted))), labels=labels),
        others=photos.take(range(len(fitted), len(rows))),
        labels=photos.labels,
        searches={name: _placed(one, place) for name, one in searches.items()},
    )


def _searched(splits: Iterable[ProtocolSplit]) -> Iterator[Rows]:
    for one in splits:
        yield from (one.gallery, one.queries)


def _placed(split: ProtocolSplit, place: Rows) -> ProtocolSplit:
    return replace(
        split,
        labelled=np.sort(place[split.labelled]),
        unlabelled=np.sort(place[split.unlabelled]),
        gallery=np.sort(place[split.gallery]),
        queries=np.sort(place[split.queries]),
    )


def _without_splits(dataset: Dataset) -> Dataset:
    """A training then takes all photos, whatever its recipe calls the training split."""
    return replace(dataset, splits=("",) * len(dataset))
