"""Groups of duplicates as light HTML pages: each photo once, what a person should check first; see `core.html`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.html import Picture, preview, render
from milvus_fghash.core.perceptual_hash import BITS, phash_distance, phash_from_hex
from milvus_fghash.dedupe.report import Duplicates, Group, Member, copies, what_is_near
from milvus_fghash.errors import DataError
from milvus_fghash.search.search import photo_file

PHOTOS_PER_PAGE: Final = 200
"""A page ends with the group that reaches it: about 1 MB of previews."""
MAX_PAGES: Final = 10
MAX_PHOTOS_PER_GROUP: Final = 16
MAX_FILES_PER_PHOTO: Final = 8
"""Paths listed below a photo of which there are several equal files."""
PREVIEW_SIDE: Final = 144
"""Longest side of a preview in pixels."""
PREVIEW_QUALITY: Final = 60
MARK: Final = b'<meta name="generator" content="milvus-fghash dedupe">'
"""Distinguishes pages of this module from other files."""


@dataclass(frozen=True)
class _Photo:
    """A photo of a group: all members with this content.

    Attributes:
        copy_of: the row that is kept, where this photo is a confirmed copy of another one.
        apart: bits in which the perceptual hashes of the two differ.
    """

    files: Sequence[Member]
    copy_of: Member | None
    apart: int

    @property
    def original(self) -> str:
        """File name of the photo it is a copy of."""
        return PurePosixPath(self.copy_of.path).name if self.copy_of else ""

    @property
    def labels(self) -> list[str]:
        return sorted({one.label for one in self.files if one.label})


@dataclass(frozen=True)
class _Shown:
    """A photo as the template shows it."""

    photo: _Photo
    picture: Picture
    files: Sequence[Member]


@dataclass(frozen=True)
class _Section:
    """A group as the template shows it."""

    group: Group
    n_classes: int
    photos: Sequence[_Shown]
    n_left_out: int


def write_duplicates_page(path: Path, found: Duplicates, photos: Path) -> list[Path]:
    """Write the page, and further ones beside it where one does not hold all: page.html, page-2.html and so on.

    Further pages of an earlier result that are no longer needed are deleted. Equal files are one photo; a group of
    equal files within a near group is shown there only.

    Args:
        photos: folder the rows' paths are relative to. A photo that is not there gets an empty tile.

    Returns:
        The pages.

    Raises:
        DataError: when a page cannot be written, or would replace a file that is not such a page; then none is written.
    """
    groups = sorted(_separate(found.groups), key=lambda group: _priority(group, found.confirmed_within), reverse=True)
    pages, n_left_out = _paged(groups)
    files = [path, *(_further(path, number) for number in range(2, len(pages) + 1))]
    earlier = _earlier(path)
    for file in files[1:]:
        if file.exists() and file not in earlier:
            raise DataError(
                f"{file} would be the next page of {path.name}, but is not a page of duplicates; give another name"
            )
    links = [(quote(file.name, errors="surrogateescape"), number) for number, file in enumerate(files, 1)]
    for number, (file, part) in enumerate(zip(files, pages, strict=True), 1):
        page = render(
            "dedupe/page.html",
            title=f"Duplicates in {found.collection}",
            found=found,
            what_is_near=what_is_near(found),
            phash_bits=BITS,
            links=links,
            number=number,
            sections=[_section(group, found.confirmed_within, photos) for group in part],
            n_left_out=n_left_out if number == len(files) else 0,
        )
        write_atomic(file, page)
    for file in earlier - set(files):
        file.unlink(missing_ok=True)
    return files


def _separate(groups: Sequence[Group]) -> list[Group]:
    """The groups without those of equal files that are part of a near group."""
    in_near = {one.content_sha for group in groups if group.kind == "near" for one in group.members}
    return [group for group in groups if group.kind == "near" or group.members[0].content_sha not in in_near]


def _priority(group: Group, within: int) -> tuple[bool, int, bool, int, int]:
    """The larger, the sooner a person should check the group: several classes, copies with unlike perceptual hashes
    (-1: no copies), not equal files, unlike codes, many rows."""
    member = {one.id: one for one in group.members}
    worst = max((_apart(member[key], stays) for key, stays in copies(group.members, within).items()), default=-1)
    return (
        len({one.label for one in group.members if one.label}) > 1,
        worst,
        group.kind == "near",
        group.distance,
        len(group.members),
    )


def _photos(group: Group, within: int) -> list[_Photo]:
    """The photos of a group, the first one first. Each is followed by its copies, the least alike first, and photos
    with such copies come before those without."""
    files: dict[str, list[Member]] = {}
    for one in group.members:
        files.setdefault(one.content_sha or one.id, []).append(one)
    kept_of = copies(group.members, within)
    with_copies: dict[str, list[_Photo]] = {}
    for equal in files.values():
        kept = kept_of.get(equal[0].id)
        photo = _Photo(equal, kept, _apart(equal[0], kept) if kept else 0)
        with_copies.setdefault(kept.id if kept else equal[0].id, []).append(photo)
    for photos in with_copies.values():
        photos.sort(key=lambda photo: -photo.apart if photo.copy_of else -BITS)
    first, *others = with_copies.values()
    others.sort(key=lambda photos: -photos[1].apart if len(photos) > 1 else 1)
    return [photo for photos in (first, *others) for photo in photos]


def _apart(one: Member, other: Member) -> int:
    """Bits between perceptual hashes; 0 of equal files that have none."""
    return phash_distance(phash_from_hex(one.phash), phash_from_hex(other.phash)) or 0


def _paged(groups: Sequence[Group]) -> tuple[list[list[Group]], int]:
    """The groups of each page, and how many groups are on none."""
    pages: list[list[Group]] = [[]]
    n_photos = 0
    for index, group in enumerate(groups):
        if n_photos >= PHOTOS_PER_PAGE:
            if len(pages) == MAX_PAGES:
                return pages, len(groups) - index
            pages.append([])
            n_photos = 0
        pages[-1].append(group)
        n_photos += min(len({one.content_sha or one.id for one in group.members}), MAX_PHOTOS_PER_GROUP)
    return pages, 0


def _section(group: Group, within: int, folder: Path) -> _Section:
    photos = _photos(group, within)
    shown = []
    for photo in photos[:MAX_PHOTOS_PER_GROUP]:
        path = photo.files[0].path
        picture = preview(photo_file(folder, path), path, PREVIEW_SIDE, PREVIEW_QUALITY)
        shown.append(_Shown(photo, picture, photo.files[:MAX_FILES_PER_PHOTO]))
    n_classes = len({one.label for one in group.members if one.label})
    return _Section(group, n_classes, shown, len(photos) - len(shown))


def _further(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _earlier(path: Path) -> set[Path]:
    """Further pages of an earlier result beside ``path``."""
    name = re.compile(re.escape(path.stem) + r"-\d+" + re.escape(path.suffix))
    found = set()
    try:
        for file in path.parent.iterdir():
            if name.fullmatch(file.name) and file.is_file():
                with open(file, "rb") as opened:
                    if MARK in opened.read(1024):
                        found.add(file)
    except OSError:  # writing the page reports it
        pass
    return found
