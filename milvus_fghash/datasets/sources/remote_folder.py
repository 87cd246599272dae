"""All photos below a URL. The listing has their revisions too, which saves a request for each photo."""

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
from milvus_fghash.datasets.sources.http_folder import list_folders, with_slash
from milvus_fghash.datasets.sources.location import InvalidSource, PhotoLocation, Url, name_of
from milvus_fghash.errors import DataError, ImageRejected

MAX_FOLDERS: Final = 100_000
"""Below one URL. Some web servers respond to any URL with links to further folders."""

FolderEntries = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Entries of a folder: relative path, with a slash at the end for a folder -> (address, metadata)."""


@dataclass
class RemoteFiles:
    """The files below a URL that pass a filter.

    Attributes:
        files: path -> (URL, metadata).
        failed: path of a folder that could not be listed -> error.
        empty: paths of folders whose listing names neither such a file nor a folder. They may be empty, or another
            page was returned in place of the listing.
        listed: paths of folders that were listed one request each, and none of whose entries was left out.
    """

    files: dict[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    failed: dict[str, ImageRejected] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)

    @property
    def unlisted(self) -> tuple[str, ...]:
        """Paths of folders whose content is unknown."""
        return (*self.failed, *self.empty)

    def failures(self, root: Url) -> Iterator[tuple[str, InvalidSource]]:
        """The folders that could not be listed, as rows of a dataset."""
        for path, error in self.failed.items():
            yield path, InvalidSource(f"{str(root).rstrip('/')}/{path}", "", error.reason, str(error))


def read(root: Url, selection: Selection = DEFAULT_SELECTION) -> Dataset:
    """Photos below ``root`` by their suffix, as the layout `folder` reads them: sorted, with the same classes.

    HTTP servers must return listings, see `http_folder.list_folders`. A folder that cannot be listed is rejected like a
    photo, and is one of `Dataset.unlisted`.

    Raises:
        DataError: when ``root`` itself cannot be listed, or holds no photos.
        MissingExtra, ConfigError: as `file_systems.filesystem`.
    """
    photo_filter = PhotoFilter(selection)
    found = find(root, photo_filter, tuple(SUFFIXES))
    photos = PhotoCollector(root, photo_filter)
    for path, (where, facts) in found.files.items():
        photos.add(path, PhotoLocation(where, name_of(where), revision_of(facts)))
    for path, failure in found.failures(root):
        photos.add(path, failure)
    return photos.dataset(unlisted=found.unlisted, listed_folders=found.listed)


def find(root: Url, photo_filter: PhotoFilter, suffixes: tuple[str, ...]) -> RemoteFiles:
    """The files below ``root`` that end in one of the suffixes and pass the filter; raises as `read`."""
    if root.protocol in {"http", "https"}:
        return _walk(root, with_slash(root.full), _pages, photo_filter, suffixes)
    files, base = filesystem(root.full.rstrip("/"))
    files.invalidate_cache()
    if has_bulk_find(files):
        try:
            names = files.find(base, detail=True)
        except Exception as error:  # each file system has its own hierarchy
            raise DataError(f"cannot list {root}: {fetch_error(str(root), error, root.full)}") from None
        start = base.rstrip("/") + "/"
        below = {str(name).removeprefix(start): facts for name, facts in names.items() if str(name).startswith(start)}
        taken = (path for path in below if photo_filter.accepts(path, is_photo=path.lower().endswith(suffixes)))
        found = RemoteFiles({path: ("", below[path]) for path in taken})
    else:
        found = _walk(
            root, base, lambda folders: [_folder(files, one, root) for one in folders], photo_filter, suffixes
        )
    found.files = {path: ((root / path).full, facts) for path, (_, facts) in found.files.items()}
    return found


def _walk(
    root: Url,
    base: str,
    listed: Callable[[Sequence[str]], Sequence[FolderEntries | ImageRejected]],
    photo_filter: PhotoFilter,
    suffixes: tuple[str, ...],
) -> RemoteFiles:
    """Descend level by level; the folders of a level are listed concurrently."""
    found, seen, level = RemoteFiles(), 0, {"": base}
    while level:
        seen += len(level)
        if seen > MAX_FOLDERS:
            raise DataError(f"{root} has more than {MAX_FOLDERS:,} folders; expected a folder of photos")
        deeper: dict[str, str] = {}
        for folder, entries in zip(level, listed(list(level.values())), strict=True):
            if isinstance(entries, ImageRejected):
                if not folder:
                    raise DataError(f"cannot list {root}: {entries}")
                found.failed[folder] = entries
                continue
            below = {f"{folder}/{path}".lstrip("/"): entry for path, entry in entries.items()}
            if not any(path.lower().endswith((*suffixes, "/")) and not _is_hidden(path) for path in entries):
                found.empty.append(folder)
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
                found.listed.append(folder)
        level = deeper
    return found


def _pages(urls: Sequence[str]) -> list[FolderEntries | ImageRejected]:
    return [
        answer if isinstance(answer, ImageRejected) else {path: (url, {}) for path, url in answer.items()}
        for answer in list_folders(urls)
    ]


def _folder(files: Any, folder: str, root: Url) -> FolderEntries | ImageRejected:
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
