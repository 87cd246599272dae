"""Groups of duplicates as HTML pages of some MB, made like that of search results. What may be wrong comes first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from milvus_fghash.core.atomic_io import write_atomic
from milvus_fghash.core.perceptual_hash import BITS, phash_distance, phash_from_hex
from milvus_fghash.core.untrusted_text import html_name
from milvus_fghash.dedupe.report import Duplicates, Group, Member, copies
from milvus_fghash.errors import DataError
from milvus_fghash.search.html_report import bits_apart, figure, inside, opening

PAGE_BYTES: Final = 2_000_000
"""Of groups on one page; the last of them may pass it by its own size."""
PAGES: Final = 20
"""Groups that no longer fit into so many are counted."""
MEMBERS: Final = 24
"""Photos of one group; the rest of it is counted."""
SIDE: Final = 160
"""Longest side of a thumbnail in pixels."""

MARK: Final = '<meta name="generator" content="milvus-fghash dedupe">\n'
"""Tells a page of ours from others."""
STYLE: Final = """section > p { grid-column: 1 / -1; margin: 0; color: inherit; }
.caution { border-left: 4px solid var(--wrong); padding-left: .75rem; color: inherit; max-width: 60rem; }
.copy .tile { outline: 3px solid var(--wrong); outline-offset: 1px; }
"""
ORDER: Final = "<p>Groups with photos of several classes come first, then those whose copies differ most.</p>\n"


def write_duplicates_page(path: Path, found: Duplicates, photos: Path) -> list[Path]:
    """Write the page, and further ones beside it where one does not hold all: page.html, page-2.html and so on.

    Further pages of an earlier result that are not needed any more are deleted.

    Args:
        photos: folder the rows' paths are relative to. A photo that is not there gets a blank tile.

    Returns:
        The pages.

    Raises:
        DataError: when a page cannot be written, or would take the place of a file that is none, before any is.
    """
    parts, left = _parts(found, photos)
    files = [path, *(_further(path, number) for number in range(2, len(parts) + 1))]
    earlier = _earlier(path)
    for file in files[1:]:
        if file.exists() and file not in earlier:
            raise DataError(f"{file} would be the next page of {path.name}, and is something else; give another name")
    for number, (file, part) in enumerate(zip(files, parts, strict=True)):
        page = "".join(_page(found, part, left if file == files[-1] else 0, files, number))
        write_atomic(file, page.encode(errors="backslashreplace"))
    for file in earlier - set(files):
        file.unlink(missing_ok=True)
    return files


def surprise(group: Group, within: int) -> tuple[bool, int, bool, int]:
    """The larger, the sooner a person should look at a group: whether its photos are of several classes, how many bits
    of perceptual hashes copies differ in (-1: there are none), whether it is one of near codes, and how many it has.

    Args:
        within: as in `copies`.
    """
    member = {one.id: one for one in group.members}
    worst = max((_apart(member[key], stays) for key, stays in copies(group.members, within).items()), default=-1)
    return len({one.label for one in group.members if one.label}) > 1, worst, group.kind == "near", len(group.members)


def _apart(one: Member, other: Member) -> int:
    """Bits between perceptual hashes; 0 of equal files that have none."""
    return phash_distance(phash_from_hex(one.phash), phash_from_hex(other.phash)) or 0


def _parts(found: Duplicates, photos: Path) -> tuple[list[str], int]:
    """The groups of each page as HTML, and how many groups no page holds."""
    parts, part, size = [], [], 0
    order = sorted(found.groups, key=lambda group: surprise(group, found.confirmed_within), reverse=True)
    for number, group in enumerate(order):
        section = "".join(_section(group, found.confirmed_within, photos))
        part.append(section)
        size += len(section)
        if size >= PAGE_BYTES:
            parts.append("".join(part))
            part, size = [], 0
            if len(parts) == PAGES:
                return parts, len(order) - number - 1
    return [*parts, "".join(part)] if part or not parts else parts, 0


def _page(found: Duplicates, part: str, left: int, files: list[Path], number: int) -> Iterator[str]:
    yield opening(f"Duplicates in {found.collection}", STYLE, MARK)
    yield f"<p>{found.n_rows:,} rows. {found.exact.groups:,} groups of equal files, with {found.exact.spare:,} rows to "
    yield f"spare. {found.near.groups:,} groups of near codes, with {found.near.spare:,} to spare, of which "
    yield f"{found.near.confirmed:,} are confirmed copies: two rows are joined "
    yield f"when at most {found.max_distance} of their {found.bits} bits differ, and joins go on from row to row. "
    yield "Distances are those from the first photo.</p>\n"
    yield from _caution(found)
    if found.note:
        yield f"<p>{html_name(found.note)}.</p>\n"
    if found.groups:
        yield ORDER
    links = _links(files, number)
    yield links + part
    if not found.groups:
        yield "<p>No duplicates were found.</p>\n"
    if left:
        yield f"<p>{left:,} more groups are not shown.</p>\n"
    yield f"{links}</html>\n"


def _caution(found: Duplicates) -> Iterator[str]:
    if not found.near.groups:
        return
    yield '<p class="caution">Near codes are a hint, no proof: short codes, and those of a model that learned classes, '
    yield "bring different photos of one class together. Copies, framed here, are confirmed by the photos themselves: "
    yield f"equal files, or perceptual hashes that differ in at most {found.confirmed_within} of {BITS} bits. Nothing "
    yield "else is deleted. Even so, look at them before: series of one subject from one place can look like copies, "
    yield "and so can products that differ in a small print only, or in how dark they are."
    if found.n_without_phash:
        yield f" Of {found.n_without_phash:,} photos of these groups no perceptual hash is known, so they stay."
    yield "</p>\n"


def _links(files: list[Path], number: int) -> str:
    if len(files) == 1:
        return ""
    names = [quote(file.name, errors="surrogateescape") for file in files]
    pages = [f'<a href="{name}">{place}</a>' for place, name in enumerate(names, 1)]
    pages[number] = f"<b>{number + 1}</b>"
    return f"<p>Page {' '.join(pages)}</p>\n"


def _section(group: Group, within: int, photos: Path) -> Iterator[str]:
    kind = "Equal files" if group.kind == "exact" else f"Near codes, up to {bits_apart(group.distance)} apart"
    classes = len({one.label for one in group.members if one.label})
    yield f"<section>\n<p>{kind}: {len(group.members):,} photos"
    yield f" of {classes:,} classes" if classes > 1 else ""
    yield f", {group.confirmed:,} of them confirmed copies of others" if group.kind == "near" else ""
    yield "</p>\n"
    first, *others = group.members
    stays_of = copies(group.members, within)
    others.sort(key=lambda one: -_apart(one, stays_of[one.id]) if one.id in stays_of else 1)  # copies, the worst first
    yield figure(inside(photos, first.path), "query", f"<b>first</b>{_named(first)}", SIDE)
    yield "<div>\n"
    for one in others[: MEMBERS - 1]:
        stays = stays_of.get(one.id)
        caption = f"<b>{bits_apart(one.distance)}</b>{_named(one)}"
        if group.kind == "near":
            caption += f"<span>{_verdict(one, stays)}</span>"
        yield figure(inside(photos, one.path), "copy" if stays else "", caption, SIDE)
    yield "</div>\n"
    if len(group.members) > MEMBERS:
        yield f"<p>{len(group.members) - MEMBERS:,} more photos of this group are not shown.</p>\n"
    yield "</section>\n"


def _verdict(one: Member, stays: Member | None) -> str:
    if stays is None:
        return "not confirmed" if one.phash else "not confirmed: no perceptual hash"
    return f"copy of {html_name(stays.path)}, {bits_apart(_apart(one, stays))} of the perceptual hash apart"


def _named(one: Member) -> str:
    """Class, whole path (copies often have one name in two folders), and own id."""
    own_id = f"<span>id: {html_name(one.own_id)}</span>" if one.own_id else ""
    return f"{html_name(one.label)}<span>{html_name(one.path)}</span>{own_id}"


def _further(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _earlier(path: Path) -> set[Path]:
    """Further pages of ours that lie beside ``path``."""
    name = re.compile(re.escape(path.stem) + r"-\d+" + re.escape(path.suffix))
    found = set()
    try:
        for file in path.parent.iterdir():
            if name.fullmatch(file.name) and file.is_file():
                with open(file, "rb") as opened:
                    if MARK.strip().encode() in opened.read(1024):
                        found.add(file)
    except OSError:  # writing tells what is the matter
        pass
    return found
