"""The one table of photos: id, path, label, split, and what else a list says of them.

Every reader makes one; nothing downstream knows the layout.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.datasets.paths import parent_folders, relative_path
from milvus_fghash.datasets.read_report import ReadReport
from milvus_fghash.datasets.sources.location import Source, Url
from milvus_fghash.datasets.tables.columns import Column, ExtraColumns
from milvus_fghash.errors import ConfigError, DataError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Dataset:
    """Photos of one data set, in a fixed order.

    Attributes:
        root: folder the paths are relative to, or the archive or archives; of no meaning where there is a ``url``.
        ids: (n,) the data set's own ids, or the relative paths; unique.
        paths: (n,) POSIX paths relative to ``root``.
        labels: (n,) class names; "" where a photo has none.
        splits: (n,) "train", "test", or any other name; "" where there is none.
    """

    root: Path
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    scanned: bool = False
    """Whether they were found by looking for pictures below ``root``, so that a new one there would be a photo too."""
    sources: tuple[Source, ...] = ()
    """(n,) where they are, when they are not all files below ``root``."""
    url: Url | None = None
    """Where the listing comes from, when that is not here."""
    extra_columns: ExtraColumns = field(default_factory=ExtraColumns)
    """What a list says of them beyond that."""
    unlisted: tuple[str, ...] = ()
    """Paths of folders and archives below ``root`` of which nobody can tell what is in them; "" stands for all."""
    listed_folders: tuple[str, ...] = field(default=(), compare=False)
    """Paths of folders elsewhere that were listed one by one; what answers for such a one may be no listing of it."""
    read_report: ReadReport = field(default_factory=ReadReport, compare=False)
    """Where the classes come from, and what was left out."""
    location: Path | Url | None = field(default=None, compare=False)
    """What was read, as it was given: a list or a folder of archives has another ``root``."""
    selected_splits: str = field(default="", compare=False)
    """The split, or splits between commas, that these photos are all of; "" where all of what was read are here."""

    def __post_init__(self) -> None:
        if not self.ids:
            left_out = self.read_report.left_out
            parts = (f"left out: {left_out}" if left_out.counts else "", left_out.hint)
            raise DataError("; ".join([f"no photos found in {self.origin}", *filter(None, parts)]))
        sizes = {len(self.ids), len(self.paths), len(self.labels), len(self.splits)}
        sizes |= {len(column) for column in self.extra_columns.values.values()}
        if len(sizes) != 1:
            raise DataError(f"the columns of the listing of {self.origin} differ in length: {sorted(sizes)}")
        if self.sources and len(self.sources) != len(self.ids):
            raise DataError(f"the listing of {self.origin} has {len(self.ids)} photos and {len(self.sources)} places")
        if len(set(self.ids)) != len(self.ids):
            twice = Counter(self.ids).most_common(1)[0][0]
            raise DataError(f"id {twice!r} stands twice in the listing of {self.origin}; ids must be unique")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted."""
        return tuple(sorted(set(self.labels)))

    @property
    def origin(self) -> Path | Url:
        """Where the listing comes from, as messages name it."""
        return self.location or self.url or self.root

    @property
    def folder(self) -> Path:
        """The folder the paths are relative to.

        Raises:
            DataError: when the photos are not all files below it.
        """
        if self.sources:
            raise DataError(
                f"the photos of {self.origin} are not files in a folder here, which this asks for; copy or unpack them"
            )
        return self.root

    def covers(self, path: str) -> bool:
        """Whether a photo of this path would be in the listing if it were there."""
        return not any(path == folder or not folder or path.startswith(f"{folder}/") for folder in self.unlisted)

    def with_untrusted_folders(self, gone: Iterable[str], read: Iterable[str]) -> Dataset:
        """With the folders among the `unknown` whose listing cannot be trusted.

        Those are folders still there where photos were that are not listed any more, and nothing listed below them
        could be read, now or before: a page for logging in may have answered, with links of its own.

        Args:
            gone: paths of the photos that are not listed any more.
            read: paths of the listed photos that could be read.
        """
        doubtful = (parent_folders(gone) & set(self.listed_folders)) - parent_folders(read)
        folders = sorted(doubtful | set(self.unlisted))
        outermost = [folder for folder in folders if not doubtful & parent_folders([folder])]
        return replace(self, unlisted=tuple(outermost))

    @property
    def unlisted_message(self) -> str:
        """Where the listing does not know what is there, for messages."""
        some = ", ".join(folder or str(self.origin) for folder in self.unlisted[:3])
        more = f" and {len(self.unlisted) - 3:,} more" if len(self.unlisted) > 3 else ""
        return f"{some}{more} could not be listed, or came back empty or with nothing that can be read"

    def file(self, row: int) -> Path:
        """Full path of one photo; raises as `folder`."""
        return self.folder / self.paths[row]

    def source(self, row: int) -> Source:
        """Where one photo is, be it a file or not."""
        return self.sources[row] if self.sources else self.file(row)

    def check_paths(self) -> None:
        """`check_path` of each.

        Raises:
            DataError: for the first.
        """
        for row in range(len(self)):
            self.check_path(row, str(self.origin))

    def check_path(self, row: int, where: str) -> None:
        """Reject a name that others may stumble over: no UTF-8, or a path that leads away on another system.

        Where there are `places`, their reader has done so: a photo of such a name is barred, and URLs are no paths.

        Raises:
            DataError: begins with ``where``.
        """
        if not self.sources:
            relative_path(self.paths[row], where)

    def keep_apart(self, out: Path) -> None:
        """For what writes files: they must not replace a photo, nor be taken for photos.

        Raises:
            ConfigError: when ``out`` is the list of the photos, their archive or folder, one of them, or stands where
                new ones are looked for.
        """
        if isinstance(self.location, Path) and self.location.is_file() and out.resolve() == self.location.resolve():
            raise ConfigError(
                f"{out} is the list of the photos, or their archive; give another file for what is written"
            )
        if self.url:
            return
        place, root = out.resolve(), self.root.resolve()
        if place == root:
            raise ConfigError(f"{out} is the folder of the photos; give another one for what is written")
        if not place.is_relative_to(root):
            return
        inside = place.relative_to(root)
        if inside.as_posix() in self.paths:
            raise ConfigError(f"{out} is one of the photos; give another file for what is written")
        if self.scanned and not any(part.startswith(".") for part in inside.parts):
            raise ConfigError(
                f"{out} lies among the photos of {self.origin}; give a place beside them for what is written"
            )

    def split(self, name: str) -> Dataset:
        """The photos of one split, or of several between commas.

        Raises:
            DataError: when no photo belongs to one of them.
        """
        known = set(self.splits) - {""}
        names = {name} if name in known else set(split_names(name))
        for one in sorted(names - known):
            hint = (
                nearest(one, known)
                if known
                else "It has no splits; expected folders such as train/ and test/, or a column split"
            )
            raise DataError(f"no photo belongs to the split {one!r} in {self.origin}. {hint}")
        part = self.take([row for row, split in enumerate(self.splits) if split in names])
        return replace(part, selected_splits=",".join(sorted(names)))

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Dataset:
        """Some of the photos, in the order of ``rows``."""

        def pick(column: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(column[row] for row in rows)

        return replace(
            self,
            ids=pick(self.ids),
            paths=pick(self.paths),
            labels=pick(self.labels),
            splits=pick(self.splits),
            sources=pick(self.sources) if self.sources else (),
            extra_columns=self.extra_columns.take([int(row) for row in rows]),
        )

    def as_columns(self, columns: Sequence[Column]) -> Dataset:
        """The photos as a collection with these columns takes them, see `ExtraColumns.as_columns`."""
        return replace(self, extra_columns=self.extra_columns.as_columns(columns))

    def label_numbers(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """(n,) position of each photo's class in ``classes``.

        Raises:
            DataError: when a class is not among them.
        """
        number = {name: position for position, name in enumerate(classes)}
        try:
            return np.array([number[label] for label in self.labels], np.int64)
        except KeyError as error:
            raise DataError(
                f"class {error.args[0]!r} in {self.origin} is not one of the {len(classes)} known"
            ) from None


def split_names(text: str) -> list[str]:
    """Names between commas, each once, in a fixed order.

    >>> split_names("val, train,val")
    ['train', 'val']
    """
    return sorted({name.strip() for name in text.split(",") if name.strip()}) or [text]


def split_by_class(dataset: Dataset, test_fraction: float, seed: int) -> Dataset:
    """Draw a train/test split, class by class; it replaces the splits the listing has.

    Each class gives ``test_fraction`` of its photos, rounded, but keeps at least one on either side (a class of one
    photo stays in training). Which ones, a hash of seed and id decides: the order of the listing does not matter, and
    a photo that is added moves at most one other photo of its class.

    Raises:
        DataError: when ``test_fraction`` is not between 0 and 1.
    """
    if not 0 < test_fraction < 1:
        raise DataError(f"the test fraction must lie between 0 and 1, got {test_fraction}")
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(dataset.labels):
        rows_of[label].append(row)
    splits = ["train"] * len(dataset)
    for rows in rows_of.values():
        rows.sort(key=lambda row: hashlib.blake2b(f"{seed} {dataset.ids[row]}".encode(), digest_size=8).digest())
        wanted = min(max(round(len(rows) * test_fraction), 1), len(rows) - 1)
        for row in rows[:wanted]:
            splits[row] = "test"
    return replace(dataset, splits=tuple(splits))


def summary(dataset: Dataset) -> str:
    """One line: how many photos, classes and splits there are, and where the class is read from."""
    labels, splits = Counter(dataset.labels), Counter(dataset.splits)
    nameless, no_split = labels.pop("", 0), splits.pop("", 0)
    classes = f"{len(labels):,} {'class' if len(labels) == 1 else 'classes'}" if labels else "no classes"
    if origin := dataset.read_report.classes:
        classes += f" ({origin})"
    if labels and nameless:
        classes += f", {nameless:,} {'photo' if nameless == 1 else 'photos'} without"
    parts = [f"{name} {count:,}" for name, count in sorted(splits.items())]
    if parts and no_split:
        parts.append(f"in none {no_split:,}")
    photos = f"{len(dataset):,} {'photo' if len(dataset) == 1 else 'photos'}"
    return f"{photos} in {dataset.origin}; {classes}; {'splits: ' + ', '.join(parts) if parts else 'no splits'}"


def facts(dataset: Dataset) -> dict[str, Any]:
    """The same as values that JSON can hold."""
    return {
        "photos": len(dataset),
        "classes": len({label for label in dataset.labels if label}),
        "splits": {name: count for name, count in sorted(Counter(dataset.splits).items()) if name},
        "class_from": dataset.read_report.classes,
        "left_out": dict(dataset.read_report.left_out.counts),
    }
