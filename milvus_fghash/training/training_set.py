"""Which photos are trained on, and which are held out: those of a data set, and those of the user's own catalog."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.core.labels import ranks_in_class
from milvus_fghash.datasets.dataset import Dataset, split_by_class
from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.methods import METHODS, card
from milvus_fghash.recipes.schema import DataChoice

MAX_PHOTOS: Final = 50_000
"""Photos that a head on a frozen backbone is trained on at most: their features, of five views, take 1.3 GB."""
CATALOG_PREFIX: Final = "catalog:"
"""Begins the ids of photos of the catalog, which may be called as those of the data set."""


@dataclass(frozen=True)
class TrainingSet:
    """Photos to train on.

    Attributes:
        photos: those of the data set, then those of the catalog; "" is the label of a photo without a class.
        held_out: labelled photos held out of them for validation; None for none.
        n_catalog: number of photos of the catalog, the last of ``photos``.
        n_found: number of photos from which ``photos`` were sampled; None: they are all.
    """

    photos: Dataset
    held_out: Dataset | None = None
    n_catalog: int = 0
    n_found: int | None = None

    def notice(self, method: str) -> str:
        """What the user is told before training of photos without a class and of the catalog; "" for nothing."""
        labels = self.photos.labels
        parts = []
        if self.n_found is not None:
            parts.append(f"a random sample of {len(labels):,} of {self.n_found:,} photos is trained on")
        if 0 < self.n_catalog < len(labels):
            own = labels[len(labels) - self.n_catalog :]
            parts.append(
                f"{len(labels) - len(own):,} photos of the data set and {len(own):,} of the catalog, "
                f"{len(own) - own.count(''):,} of these with a class"
            )
        if (nameless := labels.count("")) and card(method).unlabelled:
            n_named = len(labels) - nameless
            parts.append(
                f"{n_named:,} of {len(labels):,} training photos {'has' if n_named == 1 else 'have'} a class; "
                "the others are divided into clusters"
                if n_named
                else f"none of the {len(labels):,} training photos has a class; they are divided into clusters"
            )
        elif nameless and not card(method).labels:
            parts.append(f"{method} learns without labels")
        return "; ".join(parts)


def training_set(
    dataset: Dataset | None, catalog: Dataset | None, data: DataChoice, seed: int, *, frozen: bool = False
) -> TrainingSet:
    """Select the photos: the training split of a data set, without those held out, and the whole catalog.

    A photo of the catalog that is also one of the data set is taken once, with the data set's label.

    Args:
        frozen: whether the backbone is, see `DataChoice.max_photos`.

    Raises:
        ConfigError: when there is neither a data set nor a catalog.
        DataError: when the split does not exist, or no photo can be held out.
    """
    most = data.max_photos if data.max_photos is not None else MAX_PHOTOS if frozen else 0
    if dataset is None:
        if catalog is None:
            raise ConfigError("there are no photos to train on; give a data set, a catalog, or both", setting="data")
        photos, held_out = _hold_out(catalog, data.validation, seed)
        return _sampled(photos, held_out, len(photos), most, seed)
    photos = dataset.split(data.train_split) if any(dataset.splits) else dataset
    photos, held_out = _hold_out(photos, data.validation, seed)
    n_catalog = 0
    if catalog is not None:
        known = {file.resolve() for part in (photos, held_out) if part for file in map(part.file, range(len(part)))}
        new = [row for row in range(len(catalog)) if catalog.file(row).resolve() not in known]
        photos, n_catalog = (_joined(photos, catalog.take(new)) if new else photos), len(new)
    return _sampled(photos, held_out, n_catalog, most, seed)


def _sampled(photos: Dataset, held_out: Dataset | None, n_catalog: int, most: int, seed: int) -> TrainingSet:
    """At most ``most`` of the photos, of which the last ``n_catalog`` are of the catalog."""
    if not most or len(photos) <= most:
        return TrainingSet(photos, held_out, n_catalog)
    kept = sample_photos(photos.labels, most, seed)
    of_catalog = int((kept >= len(photos) - n_catalog).sum())
    return TrainingSet(photos.take(kept.tolist()), held_out, of_catalog, len(photos))


def sample_photos(labels: Sequence[str], most: int, seed: int) -> NDArray[np.int64]:
    """Draw the photos to train on, where there are more than can be.

    Half of them are photos with a label and half without; where there are fewer of one kind, more of the other. Of each
    label the same number is drawn, or all where it has fewer, so that no rare class is lost.

    Args:
        labels: (n,) of the photos, "" for one without.
        most: how many photos are drawn, if there are as many.
        seed: seed of the draw.

    Returns:
        (min(n, most),) their rows, ascending.
    """
    names = np.array([str(label) for label in labels])
    numbers = np.unique(names, return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(len(names))
    numbers = numbers[order]
    order = order[np.lexsort((numbers, ranks_in_class(numbers)))]  # the first of each label, then the second of each
    has_label = names[order] != ""
    labelled, others = order[has_label], order[~has_label]
    n_labelled = min(len(labelled), max(most - most // 2, most - len(others)))
    return np.sort(np.concatenate([labelled[:n_labelled], others[: most - n_labelled]]))


def _hold_out(photos: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """Photos to train on, and those held out of them, which have a class."""
    if not fraction:
        return photos, None
    parted = split_by_class(photos, fraction, seed)
    held = [row for row, split in enumerate(parted.splits) if split == "test" and photos.labels[row]]
    if not held:
        found = "each class has only one training photo" if any(photos.labels) else "no training photo has a class"
        raise DataError(f"{found}: none can be held out. Set data.validation=0")
    kept = sorted(set(range(len(photos))) - set(held))
    return photos.take(kept), photos.take(held)


def _joined(photos: Dataset, catalog: Dataset) -> Dataset:
    """Both as one data set, below the folder that they have in common."""
    folders = [part.folder.resolve() for part in (photos, catalog)]
    root = Path(os.path.commonpath(folders))

    def paths(part: Dataset, folder: Path) -> Sequence[str]:
        return [(folder.relative_to(root) / path).as_posix() for path in part.paths]

    return Dataset(
        root=root,
        ids=(*photos.ids, *(CATALOG_PREFIX + key for key in catalog.ids)),
        paths=(*paths(photos, folders[0]), *paths(catalog, folders[1])),
        labels=photos.labels + catalog.labels,
        splits=("",) * (len(photos) + len(catalog)),
        read_report=photos.read_report,
        location=photos.location,
    )


def named_classes(photos: Dataset) -> tuple[str, ...]:
    """The classes of photos that have one, sorted."""
    return tuple(name for name in photos.classes if name)


def check_classes(photos: Dataset, method: str) -> None:
    """Check that a method can learn from the classes of these photos.

    Raises:
        DataError: when it needs labels and photos have none, all have the same, or photos can have several and it
            learns from one class for each.
    """
    if photos.has_label_sets and card(method).labels and not card(method).several_labels:
        able = ", ".join(name for name, one in METHODS.items() if one.several_labels)
        raise DataError(
            f"the training photos in {photos.origin} have several labels each, and {method} learns from one class for "
            f"each photo. Choose one of {able}, or a method that learns without labels"
        )
    nameless = photos.labels.count("")
    if not card(method).labels or (nameless and card(method).unlabelled):
        return
    source = photos.read_report.classes
    if nameless:
        raise DataError(
            f"{nameless} of {len(photos)} training photos in {photos.origin} have no class, and {method} "
            f"needs one for each: a folder for each class, or a column 'label' in a list{source and f' ({source})'}. "
            "Without labels, use posterior-itq or itq"
        )
    if len(photos.classes) < 2:
        raise DataError(
            f"the {len(photos)} training photos in {photos.origin} are all of one class "
            f"({photos.classes[0]!r}{source and f', {source}'}); {method} learns from classes and needs at least two"
        )
