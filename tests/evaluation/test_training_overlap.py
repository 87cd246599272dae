"""What a gallery is to a model: each kind, mixtures, and models trained without labels."""

from __future__ import annotations

import hashlib

import pytest

from milvus_fghash.bundle.training_photos import TrainingPhotos
from milvus_fghash.evaluation.training_overlap import training_overlap


def sha(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


LABELLED = TrainingPhotos.of([sha("jay 1"), sha("wren 1"), sha("owl 1")], ["jay", "wren", ""], bytes(16))
UNLABELLED = TrainingPhotos.of([sha("jay 1"), sha("wren 1")], ["", ""], bytes(16))


@pytest.mark.parametrize(
    ("trained", "gallery", "protocol", "numbers"),
    [
        (LABELLED, ["jay 1", "wren 1"], "A", (2, 0, 0, 0, 0)),
        (LABELLED, ["jay 2", "wren 3"], "B", (0, 0, 2, 0, 0)),
        (LABELLED, ["owl 2", "hawk 1", "hawk 2"], "C", (0, 0, 0, 3, 0)),
        (LABELLED, ["owl 1"], "E", (0, 1, 0, 0, 0)),
        (LABELLED, ["jay 1", "jay 2"], "mixed", (1, 0, 1, 0, 0)),
        (LABELLED, ["jay 2", "owl 2"], "mixed", (0, 0, 1, 1, 0)),
        (LABELLED, ["jay 2", "? 2"], "B", (0, 0, 1, 0, 1)),
        (LABELLED, ["? 2"], "mixed", (0, 0, 0, 0, 1)),
        (UNLABELLED, ["jay 1", "wren 1"], "D-fitted", (0, 2, 0, 0, 0)),
        (UNLABELLED, ["jay 2", "owl 1"], "D", (0, 0, 0, 2, 0)),
        (UNLABELLED, ["jay 1", "owl 1"], "mixed", (0, 1, 0, 1, 0)),
    ],
)
def test_the_protocol_of_a_gallery(
    trained: TrainingPhotos, gallery: list[str], protocol: str, numbers: tuple[int, ...]
) -> None:
    labels = [name.split()[0].replace("?", "") for name in gallery]
    found = training_overlap(trained, [sha(name) for name in gallery], labels, [sha("jay 1"), sha("jay 9")])
    assert found is not None
    assert found.protocol == protocol
    counts = (
        found.trained,
        found.trained_without_labels,
        found.known_classes,
        found.new_classes,
        found.without_class,
    )
    assert counts == numbers
    assert sum(counts) == len(gallery)
    assert found.queries_trained == 1
    assert found.summary.startswith(f"{protocol}")
    assert f"of {len(gallery)} in the gallery); 1 queries were trained on" in found.summary


def test_older_bundles_do_not_say() -> None:
    assert training_overlap(None, [sha("jay 1")], ["jay"], []) is None
