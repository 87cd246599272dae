"""The label of a photo: "" for none, the name of its class, or a set of labels such as "|sky|water|".

A label set begins and ends with the separator, so that one text holds it wherever a label is stored: checkpoints, the
journal, Milvus. Readers of data sets in which a photo can have several labels return label sets for all photos, also
for those with a single label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.errors import DataError

SEPARATOR: Final = "|"


def join_labels(names: Iterable[str]) -> str:
    """The label set of some names, each once and sorted; "" of no name.

    >>> join_labels(["water", "sky"]), join_labels(["sky"]), join_labels([])
    ('|sky|water|', '|sky|', '')

    Raises:
        DataError: when a name contains the separator.
    """
    wanted = sorted({name.strip() for name in names} - {""})
    if wrong := next((name for name in wanted if SEPARATOR in name), None):
        raise DataError(f"the label {wrong!r} contains {SEPARATOR!r}, which separates the labels of a photo; rename it")
    return f"{SEPARATOR}{SEPARATOR.join(wanted)}{SEPARATOR}" if wanted else ""


def is_label_set(label: str) -> bool:
    """Whether a label is a set, as `join_labels` returns it."""
    return len(label) > 2 and label[0] == label[-1] == SEPARATOR


def split_labels(label: str) -> tuple[str, ...]:
    """The names in a label.

    >>> split_labels("|sky|water|"), split_labels("robin"), split_labels("")
    (('sky', 'water'), ('robin',), ())
    """
    if is_label_set(label):
        return tuple(label[1:-1].split(SEPARATOR))
    return (label,) if label else ()


def label_text(label: str) -> str:
    """A label as people read it.

    >>> label_text("|sky|water|"), label_text("robin")
    ('sky, water', 'robin')
    """
    return ", ".join(split_labels(label))


def share_label(first: str, second: str) -> bool:
    """Whether two photos are of one class or have a label in common; false when one has no label."""
    return not set(split_labels(first)).isdisjoint(split_labels(second))


def class_names(labels: Iterable[str]) -> list[str]:
    """All names in some labels, sorted."""
    return sorted({name for label in set(labels) for name in split_labels(label)})


def ranks_in_class(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) class numbers from 0 -> (n,) how many earlier photos have the same class."""
    counts = np.bincount(numbers)
    ranks = np.empty(len(numbers), np.int64)
    ranks[np.argsort(numbers, kind="stable")] = np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ranks


def label_matrix(labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.bool_]:
    """(n, n_classes), whether each photo has each label.

    Raises:
        DataError: when a photo has a label that is not one of ``classes``.
    """
    place = {name: number for number, name in enumerate(classes)}
    distinct = {label: row for row, label in enumerate(dict.fromkeys(labels))}
    matrix = np.zeros((len(distinct), len(classes)), bool)
    for label, row in distinct.items():
        for name in split_labels(label):
            if name not in place:
                raise DataError(f"the class {name!r} is not one of the {len(classes)} known")
            matrix[row, place[name]] = True
    return matrix[[distinct[label] for label in labels]]


def comparable_labels(*parts: Sequence[str]) -> tuple[NDArray[Any], ...]:
    """Labels of several sets of photos in the form that `evaluation.metrics` compares.

    Returns:
        For each part (n,) class numbers, -1 for a photo without a class; if any label is a set, (n, n_classes) bool
        for each part, whether a photo has a label.
    """
    classes = class_names(label for part in parts for label in part)
    if any(is_label_set(label) for part in parts for label in set(part)):
        return tuple(label_matrix(part, classes) for part in parts)
    number = {name: place for place, name in enumerate(classes)}
    return tuple(np.array([number.get(label, -1) for label in part], np.int64) for part in parts)


def number_labels(labels: Sequence[str], classes: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """The labels of a training set as numbers.

    Returns:
        Without label sets, (n,) class numbers and None. Otherwise (n,) the number of each photo's label set, in the
        sorted order of the distinct ones, and (n_label_sets, n_classes) bool, which labels each of them has. The
        number of a photo without a label is -1, unless "" is one of ``classes``.

    Raises:
        DataError: when a photo has a label that is not one of ``classes``.
    """
    distinct = sorted(set(labels) - {""}) if any(map(is_label_set, set(labels))) else []
    place = {"": -1} | {name: number for number, name in enumerate(distinct or classes)}
    sets = label_matrix(distinct, classes) if distinct else None
    try:
        return np.array([place[label] for label in labels], np.int64), sets
    except KeyError as error:
        raise DataError(f"the class {error.args[0]!r} is not one of the {len(classes)} known") from None
