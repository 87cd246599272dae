"""How far a gallery consists of photos and classes that the model was trained on, and the protocol that follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from milvus_fghash.bundle.training_photos import TrainingPhotos
from milvus_fghash.core.file_models import Frozen
from milvus_fghash.core.labels import split_labels

Count = Annotated[int, Field(ge=0)]

TITLES = {
    "A": "A, trained photos",
    "B": "B, new photos of known classes",
    "C": "C, new classes",
    "D": "D, new photos of a model trained without labels",
    "D-fitted": "D-fitted, photos trained on without labels",
    "E": "E, new classes, trained on without labels",
    "mixed": "mixed",
}
"""The protocols that a gallery can be named after; `evaluation.protocols` defines them."""
UNKNOWN = "unknown: the bundle does not record its training photos"


class TrainingOverlap(Frozen):
    """Photos of a gallery by what the model's training saw of them; each photo counts once.

    Attributes:
        protocol: name of the protocol if all of the gallery is of one kind, otherwise "mixed".
        trained: photos that were trained on, with their labels.
        trained_without_labels: photos that were trained on without labels.
        known_classes: other photos, of classes that were trained on.
        new_classes: other photos, of classes that were not.
        without_class: other photos, which have no class.
        queries_trained: queries that were trained on; their figures say nothing about new photos.
    """

    protocol: Literal["A", "B", "C", "D", "D-fitted", "E", "mixed"]
    trained: Count = 0
    trained_without_labels: Count = 0
    known_classes: Count = 0
    new_classes: Count = 0
    without_class: Count = 0
    queries_trained: Count = 0

    @property
    def summary(self) -> str:
        """The protocol, and the numbers behind it."""
        total = sum(getattr(self, name) for name in _KINDS)
        parts = [f"{getattr(self, name):,} {words}" for name, words in _KINDS.items() if getattr(self, name)]
        text = f"{TITLES[self.protocol]} ({', '.join(parts)}, of {total:,} in the gallery)"
        if self.queries_trained:
            text += f"; {self.queries_trained:,} queries were trained on"
        return text


_KINDS = {
    "trained": "trained on",
    "trained_without_labels": "trained on without labels",
    "known_classes": "new photos of known classes",
    "new_classes": "photos of new classes",
    "without_class": "new photos without a class",
}


def training_overlap(
    trained: TrainingPhotos | None,
    gallery_shas: Sequence[str],
    gallery_labels: Sequence[str],
    query_shas: Sequence[str],
) -> TrainingOverlap | None:
    """Compare a gallery and queries with the photos that a model was trained on.

    Args:
        trained: the record of its bundle; None in older bundles.
        gallery_shas: (n,) SHA-256 of each file; "" where it is unknown, which counts as not trained on.
        gallery_labels: (n,) class names; "" for none.
        query_shas: SHA-256 of each query.

    Returns:
        None where ``trained`` is None.
    """
    if trained is None:
        return None
    labelled, unlabelled = trained.find(gallery_shas)
    unlabelled &= ~labelled
    other, names = ~labelled & ~unlabelled, np.array(gallery_labels, object)
    # As in the protocols, a photo of several classes is new when one of them is.
    known = np.array([set(split_labels(label)).issubset(trained.classes) for label in gallery_labels], bool)
    known &= other & (names != "")
    counts = {
        "trained": labelled,
        "trained_without_labels": unlabelled,
        "known_classes": known,
        "new_classes": other & ~known & (names != ""),
        "without_class": other & (names == ""),
    }
    numbers = {name: int(rows.sum()) for name, rows in counts.items()}
    present = [name for name, number in numbers.items() if number and name != "without_class"]
    return TrainingOverlap(
        protocol=_protocol(present, bool(trained.classes)),
        **numbers,
        queries_trained=int(np.logical_or(*trained.find(query_shas)).sum()),
    )


def _protocol(present: Sequence[str], with_labels: bool) -> Literal["A", "B", "C", "D", "D-fitted", "E", "mixed"]:
    if len(present) != 1:
        return "mixed"
    match present[0], with_labels:
        case "trained", _:
            return "A"
        case "trained_without_labels", True:
            return "E"
        case "trained_without_labels", False:
            return "D-fitted"
        case "known_classes", _:
            return "B"
        case _, True:
            return "C"
        case _:
            return "D"
