"""Photos of archives and remote folders, collected into a dataset like that of a local folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from milvus_fghash.datasets.classes import read_classes
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.paths import relative_path
from milvus_fghash.datasets.read_report import ReadReport
from milvus_fghash.datasets.selection import PhotoFilter
from milvus_fghash.datasets.sources.location import InvalidSource, Source, Url
from milvus_fghash.errors import DataError

MAX_NAME_LENGTH: Final = 200
"""Characters shown of an invalid name."""

_SAMPLES = "from KEY.cls, or the field label of KEY.json, next to each photo"


@dataclass
class PhotoCollector:
    """Photos in the order in which `add` received them; `dataset` sorts them by path."""

    root: Path | Url
    photo_filter: PhotoFilter
    """The filter that the photos passed."""
    _rows: list[tuple[str, Source, str, str]] = field(default_factory=list)

    def add(self, path: str, source: Source, folder: str = "", sample: str = "") -> None:
        """One photo.

        Args:
            path: relative to the root. If it leaves the root, or is not UTF-8, the photo becomes an `InvalidSource`.
            folder: the path that determines class and split, if different.
            sample: the key that the photo shares with the file that holds its class.
        """
        try:
            path = relative_path(path, str(self.root))
            folder = relative_path(folder, str(self.root)) if folder else path
        except DataError as error:
            path = path.encode(errors="backslashreplace").decode()[:MAX_NAME_LENGTH]
            revision = "" if isinstance(source, Path) else source.revision
            self._rows.append((path, InvalidSource(path, revision, "name", str(error)), "", ""))
        else:
            self._rows.append((path, source, folder, sample))

    def dataset(
        self,
        label_of: Mapping[str, str] = {},
        *,
        scanned: bool = True,
        unlisted: Sequence[str] = (),
        listed_folders: Sequence[str] = (),
    ) -> Dataset:
        """The dataset. Photos of the same path get ids of their own; the first keeps the path as its id.

        Args:
            label_of: sample -> class; for other photos, the folder determines it.
            unlisted, listed_folders: as in `Dataset`.

        Raises:
            DataError: when there are no photos, or their folders contradict each other.
        """
        self._rows.sort(key=lambda row: row[0])
        paths = tuple(row[0] for row in self._rows)
        classes = read_classes(self.root, [row[2] for row in self._rows], self.photo_filter.selection.class_level)
        labels = tuple(label_of.get(row[3], label) for row, label in zip(self._rows, classes.labels, strict=True))
        from_folders = any(row[3] not in label_of for row in self._rows)
        class_source = f"{_SAMPLES}{f'; else {classes.source}' if from_folders else ''}" if label_of else classes.source
        read_report = ReadReport(class_source, classes.warnings if from_folders else (), self.photo_filter.left_out)
        times: Counter[str] = Counter()
        ids = []
        for path in paths:
            times[path] += 1
            ids.append(path if times[path] == 1 else f"{path} #{times[path]}")
        sources = tuple(row[1] for row in self._rows)
        root, url = (Path(), self.root) if isinstance(self.root, Url) else (self.root, None)
        return Dataset(
            root,
            tuple(ids),
            paths,
            labels,
            classes.splits,
            scanned,
            sources,
            url,
            unlisted=tuple(unlisted),
            listed_folders=tuple(listed_folders),
            read_report=read_report,
        )
