"""Photos in tar and zip archives, including WebDataset shards -> a dataset. Archives are not unpacked."""

from __future__ import annotations

import itertools
import math
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from milvus_fghash.core.image_formats import SUFFIXES
from milvus_fghash.core.masking import without_secrets
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts.folder import files_below
from milvus_fghash.datasets.selection import DEFAULT_SELECTION, PhotoFilter, Selection
from milvus_fghash.datasets.sources.archive_index import members_of
from milvus_fghash.datasets.sources.archive_member import Member, invalid_member
from milvus_fghash.datasets.sources.collector import PhotoCollector
from milvus_fghash.datasets.sources.location import Url, protocol_of
from milvus_fghash.datasets.sources.remote_folder import RemoteFiles, find
from milvus_fghash.errors import DataError

ENDINGS: Final = (".tar", ".zip", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Suffixes of archives. Compressed tars are rejected later, with the reason."""
MAX_SHARDS: Final = 1_000_000

_CHAINED = ("tar", "zip")
"""Protocols of fsspec that mark a path or a URL as an archive."""
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_archive(place: Path | Url) -> bool:
    """Whether a name is that of an archive, or of several with braces.

    >>> is_archive(Path("train-{000000..000009}.tar")), is_archive(Path("photos.TAR.GZ")), is_archive(Path("photos"))
    (True, True, False)
    """
    chained = isinstance(place, Url) and place.protocol in _CHAINED
    return chained or place.name.lower().endswith(ENDINGS)


def holds_only_archives(folder: Path) -> bool:
    """Whether a folder holds archives and no photos.

    Folders by img2dataset, for example, hold tars with their tables and statistics.
    """
    photo_filter = PhotoFilter()
    entries = [entry for entry in folder.glob("[!.]*") if photo_filter.enters(entry.name)]
    return any(map(is_archive, entries)) and all(
        entry.is_file() and not entry.name.lower().endswith(tuple(SUFFIXES)) for entry in entries
    )


def read(root: Path | Url, selection: Selection = DEFAULT_SELECTION) -> Dataset:
    """The photos of one archive, of all archives below a folder, or of those that braces in ``root`` name.

    In a single archive, a photo has the path, class and split that the layout `folder` would give it after unpacking.
    With several, its path starts with the name of the archive. A class given by KEY.cls, or by the field "label" of
    KEY.json, next to KEY.jpg takes precedence over the folder. Members that cannot be read (links, names that leave the
    archive, nested archives, truncated files) are in the dataset, and rejected when they are read. Members that the
    selection leaves out, and those that are neither photo nor label, are counted in `Dataset.read_report`.

    Raises:
        DataError: when there is no archive, a single one cannot be read, or no photo is found.
        MissingExtra: for a URL, without the packages it needs.
    """
    photo_filter = PhotoFilter(selection)
    archives, found = _archives(root, photo_filter)
    alone = archives[0][0] == ""
    photos = PhotoCollector(root, photo_filter)
    samples: dict[str, str] = {}
    unlisted = list(found.unlisted)
    for path, place in found.failures(root) if isinstance(root, Url) else ():
        photos.add(path, place)
    for prefix, archive in archives:
        where = archive.full if isinstance(archive, Url) else str(archive.resolve())
        try:
            members, revision = members_of(archive)
        except DataError as error:
            if alone:
                raise
            members, revision = [invalid_member("", "broken", f"cannot be read: {error}")], ""
        for member in members:
            if not member.name:  # a fault of the archive itself: its further content is unknown
                unlisted.append(prefix)
            path = posixpath.join(prefix, member.name) if member.name else prefix or archive.name
            if member.skipped_as:
                photo_filter.left_out.add(member.skipped_as, path)
                continue
            if member.name and not photo_filter.accepts(path, is_photo=member.skipped_as is None):
                continue
            sample = _sample(prefix, member.name)
            if member.text is None:
                folder = posixpath.join(posixpath.dirname(prefix), member.name)
                photos.add(path, member.source(where, str(archive), revision), folder, sample)
            elif (label := _label(member)) and (member.name.lower().endswith(".cls") or sample not in samples):
                samples[sample] = label
    return photos.dataset(samples, scanned=not alone, unlisted=unlisted, listed_folders=found.listed)


def _archives(root: Path | Url, photo_filter: PhotoFilter) -> tuple[list[tuple[str, Path | Url]], RemoteFiles]:
    """The archives, each with the prefix of its paths ("" for a single one), and the remote files found on the way."""
    below = RemoteFiles()
    if isinstance(root, Url) and root.protocol in _CHAINED:
        return [("", _target(root))], below
    text = root.full if isinstance(root, Url) else str(root)
    if _BRACES.search(text):
        names = list(expand_braces(text))
        above = without_secrets(text[: text.index("{")].rpartition("/")[0])
        found = [(without_secrets(name).removeprefix(above).lstrip("/"), type(root)(name)) for name in names]
    elif is_archive(root) and not (isinstance(root, Path) and root.is_dir()):
        found = [("", root)]
    elif isinstance(root, Url):
        below = find(root, photo_filter, ENDINGS)
        found = [(path, Url(where)) for path, (where, _) in sorted(below.files.items())]
    else:
        found = [(name, root / name) for name in sorted(files_below(root, photo_filter, ENDINGS))]
    for _, archive in found:
        if isinstance(archive, Path) and not archive.is_file():
            raise DataError(f"there is no file {archive}; expected a .tar or .zip")
    if not found:
        raise DataError(f"{root} holds no archives; expected files ending in .tar or .zip")
    return found, below


def _target(root: Url) -> Path | Url:
    """The archive of ``zip://photos.zip`` or, in the syntax of fsspec, ``zip://::s3://bucket/photos.zip``."""
    inner, chained, target = root.full.partition("://")[2].partition("::")
    if chained and inner.strip("/*"):
        raise DataError(
            f"{root}: a part of an archive cannot be selected; use {root.protocol}://::{target or 'ARCHIVE'}"
        )
    place = target if chained else inner
    return Url(place) if protocol_of(place) else Path(place)


def expand_braces(text: str) -> Iterator[str]:
    """The names that braces expand to, as in a shell.

    >>> list(expand_braces("{a,b}-{08..10}.tar"))
    ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar', 'b-09.tar', 'b-10.tar']

    Raises:
        DataError: when a range is descending, or there are more than `MAX_SHARDS` names.
    """
    parts = _BRACES.split(text)
    choices = [[part] if place % 2 == 0 else _choices(part) for place, part in enumerate(parts)]
    if math.prod(map(len, choices)) > MAX_SHARDS:
        raise DataError(f"{text} expands to more than {MAX_SHARDS:,} archives")
    return map("".join, itertools.product(*choices))


def _choices(part: str) -> list[str]:
    if not (both := _RANGE.fullmatch(part)):
        return part.split(",")
    first, last = int(both[1]), int(both[2])
    if not first <= last < first + MAX_SHARDS:
        raise DataError(f"{{{part}}} must be an ascending range of at most {MAX_SHARDS:,} numbers")
    return [f"{number:0{len(both[1])}}" for number in range(first, last + 1)]


def _sample(prefix: str, name: str) -> str:
    """The key that the members of one sample share: folder, and file name up to the first dot."""
    folder, _, file = posixpath.normpath(posixpath.join(prefix, name)).rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _label(member: Member) -> str:
    text = (member.text or "").strip()
    if not member.name.lower().endswith(".json"):
        return text
    try:
        content = parse_json(text)
    except ValueError:
        return ""
    label = content.get("label", "") if isinstance(content, dict) else ""
    return str(label) if isinstance(label, str | int) else ""
