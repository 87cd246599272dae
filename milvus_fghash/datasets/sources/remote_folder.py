"""All photos below a URL, listed once; what the listing says of versions saves a question for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from milvus_fghash.core.image_formats import SUFFIXES
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.selection import DEFAULT_SELECTION, PhotoFilter, Selection
from milvus_fghash.datasets.sources.collector import PhotoCollector
from milvus_fghash.datasets.sources.fetch import revision_of
from milvus_fghash.datasets.sources.file_systems import fetch_error, filesystem, has_bulk_find
from milvus_fghash.datasets.sources.http_folder import listings, with_slash
from milvus_fghash.datasets.sources.location import InvalidSource, PhotoLocation, Url, name_of
from milvus_fghash.errors import DataError, ImageRejected

MAX_FOLDERS: Final = 100_000
"""Below one URL. Some web servers answer whatever is asked for with links to more."""

Entries = Mapping[str, tuple[str, Mapping[str, Any]]]
"""What lies below a folder: relative path, of a folder with a slash behind it -> where, and what is known of it."""


@dataclass
class Found:
    """What lies below a URL and went through a photo_filter.

    Attributes:
        files: path -> URL, and what is known of it.
        failed: path of a folder that could not be listed -> why.
        silent: paths of folders whose listing names no such file and no folder. Whether such a one is empty, or
            something else answered in its place, nobody can tell.
        asked: paths of folders that were listed one by one, and none of what they name was left out.
    """

    files: dict[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    failed: dict[str, ImageRejected] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Paths of folders of which nobody can tell what is in them."""
        return (*self.failed, *self.silent)

    def barred(self, root: Url) -> Iterator[tuple[str, InvalidSource]]:
        """The folders that could not be listed, as a listing has them."""
        for path, error in self.failed.items():
            yield path, InvalidSource(f"{str(root).rstrip('/')}/{path}", "", error.reason, str(error))


def read(root: Url, selection: Selection = DEFAULT_SELECTION) -> Dataset:
    """Photos below ``root`` by their suffix, as the layout `folder` reads them: sorted, with the same classes.

    Of HTTP, pages that link what lies below are needed, see `http_folder.listings`. A folder that cannot be listed is
    rejected like a photo, and the listing says that it does not know what is in it.

    Raises:
        DataError: when ``root`` itself cannot be listed, or holds no photos.
        MissingExtra, ConfigError: as `fetching.filesystem`.
    """
    photo_filter = PhotoFilter(selection)
    found = find(root, photo_filter, tuple(SUFFIXES))
    photos = PhotoCollector(root, photo_filter)
    for path, (where, facts) in found.files.items():
        photos.add(path, PhotoLocation(where, name_of(where), revision_of(facts)))
    for path, barred in found.barred(root):
        photos.add(path, barred)
    return photos.dataset(unlisted=found.unknown, listed_folders=found.asked)


def find(root: Url, photo_filter: PhotoFilter, suffixes: tuple[str, ...]) -> Found:
    """The files below ``root`` that end in one of the suffixes and go through the photo_filter; raises as `read`."""
    if root.protocol in {"http", "https"}:
        return _walk(root, with_slash(root.full), _pages, photo_filter, suffixes)
    files, base = filesystem(root.full.rstrip("/"))
    files.invalidate_cache()
    if has_bulk_find(files):
        try:
            names = files.find(base, detail=True)
        except Exception as error:  # of fsspec's file systems, which have trees of their own
            raise DataError(f"cannot list {root}: {fetch_error(str(root), error, root.full)}") from None
        start = base.rstrip("/") + "/"
        below = {str(name).removeprefix(start): facts for name, facts in names.items() if str(name).startswith(start)}
        taken = (path for path in below if photo_filter.accepts(path, is_photo=path.lower().endswith(suffixes)))
        found = Found({path: ("", below[path]) for path in taken})
    else:
        found = _walk(
            root, base, lambda folders: [_folder(files, one, root) for one in folders], photo_filter, suffixes
        )
    found.files = {path: ((root / path).full, facts) for path, (_, facts) in found.files.items()}
    return found


def _walk(
    root: Url,
    base: str,
    listed: Callable[[Sequence[str]], Sequence[Entries | ImageRejected]],
    photo_filter: PhotoFilter,
    suffixes: tuple[str, ...],
) -> Found:
    """Go down level by level: the folders of one are asked for together."""
    found, seen, level = Found(), 0, {"": base}
    while level:
        seen += len(level)
        if seen > MAX_FOLDERS:
            raise DataError(f"{root} leads to more than {MAX_FOLDERS:,} folders; expected a folder of photos")
        deeper: dict[str, str] = {}
        for folder, entries in zip(level, listed(list(level.values())), strict=True):
            if isinstance(entries, ImageRejected):
                if not folder:
                    raise DataError(f"cannot list {root}: {entries}")
                found.failed[folder] = entries
                continue
            below = {f"{folder}/{path}".lstrip("/"): entry for path, entry in entries.items()}
            if not any(path.lower().endswith((*suffixes, "/")) and not _is_hidden(path) for path in entries):
                found.silent.append(folder)
            is_all_taken = True
            for path, (where, facts) in below.items():
                is_photo = path.lower().endswith(suffixes)
                if path.endswith("/"):
                    if is_taken := photo_filter.enters(path.rstrip("/")):
                        deeper[path.rstrip("/")] = where
                elif is_taken := photo_filter.accepts(path, is_photo=is_photo):
                    found.files[path] = where, facts
                is_all_taken &= is_taken or not (is_photo or path.endswith("/"))
            if is_all_taken:
                found.asked.append(folder)
        level = deeper
    return found


def _pages(urls: Sequence[str]) -> list[Entries | ImageRejected]:
    return [
        answer if isinstance(answer, ImageRejected) else {path: (url, {}) for path, url in answer.items()}
        for answer in listings(urls)
    ]


def _folder(files: Any, folder: str, root: Url) -> Entries | ImageRejected:
    try:
        infos = files.ls(folder, detail=True)
    except Exception as error:
        return fetch_error(f"{root.protocol}://{folder.lstrip('/')}", error, root.full)
    start = folder.rstrip("/") + "/"
    names = {str(info["name"]).rstrip("/"): info for info in infos}
    return {
        name.removeprefix(start) + "/" * (info["type"] == "directory"): (name, info)
        for name, info in names.items()
        if name.startswith(start)
    }


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))
