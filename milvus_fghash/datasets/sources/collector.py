"""Photos found elsewhere than in a folder here, gathered into a listing that is as a folder's would be."""

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
"""Letters of a name that cannot be a path."""

_SAMPLES = "from KEY.cls, or the field label of KEY.json, beside each photo"


@dataclass
class PhotoCollector:
    """Grows by `add`; `dataset` gives them in the order of their paths."""

    root: Path | Url
    photo_filter: PhotoFilter
    """What they went through."""
    _rows: list[tuple[str, Source, str, str]] = field(default_factory=list)

    def add(self, path: str, place: Source, folder: str = "", sample: str = "") -> None:
        """One photo.

        Args:
            path: relative to the root. One that leads out of it, or is no text, bars the photo.
            folder: the path that says class and split, where it is another one.
            sample: what the photo shares with the file that says its class.
        """
        try:
            path = relative_path(path, str(self.root))
            folder = relative_path(folder, str(self.root)) if folder else path
        except DataError as error:
            path = path.encode(errors="backslashreplace").decode()[:MAX_NAME_LENGTH]
            version = "" if isinstance(place, Path) else place.revision
            self._rows.append((path, InvalidSource(path, version, "name", str(error)), "", ""))
        else:
            self._rows.append((path, place, folder, sample))

    def dataset(
        self,
        label_of: Mapping[str, str] = {},
        *,
        scanned: bool = True,
        unlisted: Sequence[str] = (),
        listed_folders: Sequence[str] = (),
    ) -> Dataset:
        """All of them. Of several of one path each has an id of its own, and the first one counts.

        Args:
            label_of: sample -> class, where the folder does not say it.
            unlisted, listed_folders: as in `Dataset`.

        Raises:
            DataError: when there is none, or their folders contradict each other.
        """
        self._rows.sort(key=lambda row: row[0])
        paths = tuple(row[0] for row in self._rows)
        classes = read_classes(self.root, [row[2] for row in self._rows], self.photo_filter.selection.class_level)
        said = tuple(label_of.get(row[3], label) for row, label in zip(self._rows, classes.labels, strict=True))
        unsaid = any(row[3] not in label_of for row in self._rows)
        source = f"{_SAMPLES}{f'; else {classes.source}' if unsaid else ''}" if label_of else classes.source
        read_report = ReadReport(source, classes.warnings if unsaid else (), self.photo_filter.left_out)
        times: Counter[str] = Counter()
        ids = []
        for path in paths:
            times[path] += 1
            ids.append(path if times[path] == 1 else f"{path} #{times[path]}")
        places = tuple(row[1] for row in self._rows)
        root, url = (Path(), self.root) if isinstance(self.root, Url) else (self.root, None)
        return Dataset(
            root,
            tuple(ids),
            paths,
            said,
            classes.splits,
            scanned,
            places,
            url,
            unlisted=tuple(unlisted),
            listed_folders=tuple(listed_folders),
            read_report=read_report,
        )
