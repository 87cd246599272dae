"""`Dataset`, the table of photos: id, path, label, split, and the further columns of a list.

Every reader returns one; nothing downstream knows the layout of the files.
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

from milvus_fghash.core.labels import class_names, is_label_set, label_matrix, number_labels, split_labels
from milvus_fghash.datasets.paths import parent_folders, relative_path
from milvus_fghash.datasets.read_report import ReadReport
from milvus_fghash.datasets.sources.location import Source, Url
from milvus_fghash.datasets.tables.columns import Column, ExtraColumns
from milvus_fghash.errors import ConfigError, DataError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Dataset:
    """The photos of one data set, in a fixed order. `read_dataset` returns one; no photo is opened for it.

    Of use to most callers are ``ids``, ``paths``, ``labels``, ``splits``, ``classes``, `split` and `take`; the other
    attributes tell ingest where the photos are and how far the dataset can be trusted.

    Attributes:
        root: the folder that ``paths`` are relative to, or the archive; meaningless where ``url`` is set.
        ids: (n,) unique ids: those of the data set, or the relative paths.
        paths: (n,) POSIX paths relative to ``root``, or URLs without secrets.
        labels: (n,) class names; "" for a photo without a class. Where photos can have several, label sets such as
            ``"|sky|water|"``: see `label_matrix`.
        splits: (n,) "train", "test", or any other name; "" for a photo in no split.
        scanned: whether the photos were found by scanning ``root``, so that any image file there belongs to them.
        sources: (n,) where each photo is read from; () when all of them are files below ``root``.
        url: the URL that the dataset was read from; None for local files.
        extra_columns: further columns of a CSV or Parquet list, such as prices.
        unlisted: folders and archives whose content could not be determined; "" stands for ``root`` itself.
        listed_folders: remote folders that were listed one request each; a login page may have answered for one.
        read_report: where the classes come from, warnings, and which files were left out.
        location: the path or URL that was passed to the reader; a list has its folder as ``root``.
        selected_splits: the splits that `split` selected, separated by commas; "" for all photos.

    Raises:
        DataError: when there is no photo, columns differ in length, or two photos have the same id.

    Examples:
        >>> birds = Dataset(Path("birds"), ("1", "2"), ("a.jpg", "b.jpg"), ("jay", "wren"), ("train", "test"))
        >>> len(birds), birds.classes, birds.split("test").paths
        (2, ('jay', 'wren'), ('b.jpg',))
    """

    root: Path
    ids: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    scanned: bool = False
    sources: tuple[Source, ...] = ()
    url: Url | None = None
    extra_columns: ExtraColumns = field(default_factory=ExtraColumns)
    unlisted: tuple[str, ...] = ()
    listed_folders: tuple[str, ...] = field(default=(), compare=False)
    read_report: ReadReport = field(default_factory=ReadReport, compare=False)
    location: Path | Url | None = field(default=None, compare=False)
    selected_splits: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.ids:
            left_out = self.read_report.left_out
            parts = (f"left out: {left_out}" if left_out.counts else "", left_out.hint)
            raise DataError("; ".join([f"no photos found in {self.origin}", *filter(None, parts)]))
        sizes = {len(self.ids), len(self.paths), len(self.labels), len(self.splits)}
        sizes |= {len(column) for column in self.extra_columns.values.values()}
        if len(sizes) != 1:
            raise DataError(f"the columns of {self.origin} differ in length: {sorted(sizes)}")
        if self.sources and len(self.sources) != len(self.ids):
            raise DataError(f"{self.origin} has {len(self.ids)} photos and {len(self.sources)} sources")
        if len(set(self.ids)) != len(self.ids):
            twice = Counter(self.ids).most_common(1)[0][0]
            raise DataError(f"id {twice!r} occurs twice in {self.origin}; ids must be unique")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted; of label sets, the names in them."""
        names = class_names(self.labels)
        return ("", *names) if "" in self.labels else tuple(names)

    @property
    def has_label_sets(self) -> bool:
        """Whether a photo can have several labels."""
        return any(map(is_label_set, set(self.labels)))

    @property
    def origin(self) -> Path | Url:
        """Where the dataset comes from, as messages show it."""
        return self.location or self.url or self.root

    @property
    def folder(self) -> Path:
        """The local folder that ``paths`` are relative to.

        Raises:
            DataError: when not all photos are files below it.
        """
        self.check_local()
        return self.root

    def check_local(self) -> None:
        """Require that every photo is a local file below one folder.

        Raises:
            DataError: when photos are in an archive or behind URLs.
        """
        if self.sources:
            raise DataError(
                f"the photos of {self.origin} are not local files, which this operation needs; copy or unpack them"
            )

    def covers(self, path: str) -> bool:
        """Whether the dataset would contain a photo of this path if it existed.

        Args:
            path: as in ``paths``.

        Returns:
            False for paths in folders that could not be listed.
        """
        return not any(path == folder or not folder or path.startswith(f"{folder}/") for folder in self.unlisted)

    def with_untrusted_folders(self, gone: Iterable[str], read: Iterable[str]) -> Dataset:
        """A copy whose ``unlisted`` includes the folders whose listing cannot be trusted.

        A folder is not trusted when photos of it are no longer listed and none of the photos listed below it could be
        read: a login page with links of its own may have answered.

        Args:
            gone: paths of the photos that are no longer listed.
            read: paths of the listed photos that could be read.
        """
        untrusted = (parent_folders(gone) & set(self.listed_folders)) - parent_folders(read)
        folders = sorted(untrusted | set(self.unlisted))
        outermost = [folder for folder in folders if not untrusted & parent_folders([folder])]
        return replace(self, unlisted=tuple(outermost))

    @property
    def unlisted_message(self) -> str:
        """Which folders could not be listed, for messages."""
        some = ", ".join(folder or str(self.origin) for folder in self.unlisted[:3])
        more = f" and {len(self.unlisted) - 3:,} more" if len(self.unlisted) > 3 else ""
        return f"{some}{more} could not be listed, or returned nothing that can be read"

    def file(self, row: int) -> Path:
        """Full path of one photo.

        Args:
            row: position of the photo.

        Returns:
            The path of a local file.

        Raises:
            DataError: when not all photos are local files.
        """
        return self.folder / self.paths[row]

    def source(self, row: int) -> Source:
        """Source from which one photo is read.

        Args:
            row: position of the photo.

        Returns:
            A local path, or the location in an archive or behind a URL.
        """
        return self.sources[row] if self.sources else self.file(row)

    def check_paths(self) -> None:
        """Apply `check_path` to every photo.

        Raises:
            DataError: for the first path that is rejected.
        """
        for row in range(len(self)):
            self.check_path(row, str(self.origin))

    def check_path(self, row: int, where: str) -> None:
        """Reject a path that is not UTF-8 or that would leave the folder on another operating system.

        With ``sources``, the reader has done this already: such a photo is an `InvalidSource`, and URLs are no paths.

        Args:
            row: position of the photo.
            where: begins the message, such as the list of the photos.

        Raises:
            DataError: when the path is rejected.
        """
        if not self.sources:
            relative_path(self.paths[row], where)

    def keep_apart(self, out: Path) -> None:
        """Check that an output path neither replaces a photo nor would be read as one.

        Args:
            out: path that will be written.

        Raises:
            ConfigError: when ``out`` is the list, archive or folder of the photos, one of the photos, or lies in a
                folder that is scanned for photos.
        """
        if isinstance(self.location, Path) and self.location.is_file() and out.resolve() == self.location.resolve():
            raise ConfigError(f"{out} is the list or the archive of the photos; choose another file for the output")
        if self.url:
            return
        target, root = out.resolve(), self.root.resolve()
        if target == root:
            raise ConfigError(f"{out} is the folder of the photos; choose another one for the output")
        if not target.is_relative_to(root):
            return
        below = target.relative_to(root)
        if below.as_posix() in self.paths:
            raise ConfigError(f"{out} is one of the photos; choose another file for the output")
        if self.scanned and not any(part.startswith(".") for part in below.parts):
            raise ConfigError(
                f"{out} lies among the photos of {self.origin}; choose a path outside of them for the output"
            )

    def split(self, name: str) -> Dataset:
        """The photos of one split, or of several.

        Args:
            name: the split, such as ``"train"``, or several separated by commas.

        Returns:
            A dataset of these photos, in the same order.

        Raises:
            DataError: when no photo belongs to one of them.
        """
        known = set(self.splits) - {""}
        names = {name} if name in known else set(split_names(name))
        for one in sorted(names - known):
            hint = (
                nearest(one, known)
                if known
                else "It has no splits; expected folders such as train/ and test/, or a column 'split'"
            )
            raise DataError(f"no photo belongs to the split {one!r} in {self.origin}. {hint}")
        part = self.take([row for row, split in enumerate(self.splits) if split in names])
        return replace(part, selected_splits=",".join(sorted(names)))

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Dataset:
        """Some of the photos.

        Args:
            rows: positions of the photos, from 0.

        Returns:
            A dataset of these photos, in the order of ``rows``.
        """

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
        """A copy whose extra columns have the types of a collection.

        Args:
            columns: typed columns of the collection.

        Returns:
            The copy; see `ExtraColumns.as_columns`.
        """
        return replace(self, extra_columns=self.extra_columns.as_columns(columns))

    def label_numbers(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """The class of each photo as a number.

        Args:
            classes: class names.

        Returns:
            (n,) position of each photo's class in ``classes``; -1 for a photo without a class, unless that is one. Of
            label sets, the position of each photo's set among the distinct sets of the dataset, sorted.

        Raises:
            DataError: when a photo has another class.
        """
        try:
            return number_labels(self.labels, classes)[0]
        except DataError as error:
            raise DataError(f"{self.origin}: {error}") from None

    def label_matrix(self, classes: Sequence[str]) -> NDArray[np.bool_]:
        """Which labels each photo has.

        Args:
            classes: class names.

        Returns:
            (n, n_classes), true where the photo has the label.

        Raises:
            DataError: when a photo has another label.

        Examples:
            >>> photos = Dataset(Path("."), ("1", "2"), ("a.jpg", "b.jpg"), ("|sky|water|", "|sky|"), ("", ""))
            >>> photos.label_matrix(photos.classes).tolist()
            [[True, True], [True, False]]
        """
        try:
            return label_matrix(self.labels, classes)
        except DataError as error:
            raise DataError(f"{self.origin}: {error}") from None


def split_names(text: str) -> list[str]:
    """Split names separated by commas, sorted, each once.

    >>> split_names("val, train,val")
    ['train', 'val']
    """
    return sorted({name.strip() for name in text.split(",") if name.strip()}) or [text]


def split_by_class(dataset: Dataset, test_fraction: float, seed: int) -> Dataset:
    """Draw a train/test split, class by class; it replaces the splits of the dataset.

    Each class gives ``test_fraction`` of its photos, rounded, but at least one photo to either side (a class of one
    photo stays in training). A photo with several labels counts for the rarest of them. A hash of seed and id selects
    them: the order of the photos does not matter, and an added photo moves at most one other photo of its class.

    Raises:
        DataError: when ``test_fraction`` is not between 0 and 1.
    """
    if not 0 < test_fraction < 1:
        raise DataError(f"the test fraction must lie between 0 and 1, got {test_fraction}")
    rows_of: dict[str, list[int]] = defaultdict(list)
    photos_of = Counter(name for label in dataset.labels for name in split_labels(label))
    for row, label in enumerate(dataset.labels):
        rows_of[min(split_labels(label), key=lambda name: (photos_of[name], name), default="")].append(row)
    splits = ["train"] * len(dataset)
    for rows in rows_of.values():
        rows.sort(key=lambda row: hashlib.blake2b(f"{seed} {dataset.ids[row]}".encode(), digest_size=8).digest())
        wanted = min(max(round(len(rows) * test_fraction), 1), len(rows) - 1)
        for row in rows[:wanted]:
            splits[row] = "test"
    return replace(dataset, splits=tuple(splits))


def summary(dataset: Dataset) -> str:
    """One line: the numbers of photos, classes and splits, and where the classes come from."""
    labels, splits = class_names(dataset.labels), Counter(dataset.splits)
    nameless, no_split = dataset.labels.count(""), splits.pop("", 0)
    classes = f"{len(labels):,} {'class' if len(labels) == 1 else 'classes'}" if labels else "no classes"
    if dataset.has_label_sets:
        labelled = len(dataset) - nameless
        classes += f", {sum(len(split_labels(label)) for label in dataset.labels) / labelled:.1f} labels a photo"
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
    """`summary` as values for JSON."""
    return {
        "photos": len(dataset),
        "classes": len(class_names(dataset.labels)),
        "splits": {name: count for name, count in sorted(Counter(dataset.splits).items()) if name},
        "class_from": dataset.read_report.classes,
        "left_out": dict(dataset.read_report.left_out.counts),
    }
