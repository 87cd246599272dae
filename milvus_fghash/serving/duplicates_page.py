"""Groups of duplicates as one HTML page, made like the page of search results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from milvus_fghash.duplicates_record import Duplicates, Group, Member
from milvus_fghash.outside_text import html_name
from milvus_fghash.serving.gallery import bits_apart, figure, inside, opening
from milvus_fghash.whole_file import write_whole

PHOTOS: Final = 2000
"""Photos of one page: some 20 MB. Groups that no longer fit are counted."""
MEMBERS: Final = 24
"""Photos of one group; the rest of it is counted."""

STYLE: Final = "section > p { grid-column: 1 / -1; margin: 0; color: inherit; }\n"


def write_duplicates_page(path: Path, found: Duplicates, photos: Path) -> None:
    """Write the page.

    Args:
        photos: folder the rows' paths are relative to. A photo that is not there gets a blank tile.

    Raises:
        DataError: when the file cannot be written.
    """
    write_whole(path, "".join(_page(found, photos)).encode(errors="backslashreplace"))


def _page(found: Duplicates, photos: Path) -> Iterator[str]:
    yield opening(f"Duplicates in {found.collection}", STYLE)
    yield f"<p>{found.n_rows:,} rows. {found.exact.groups:,} groups of equal files, with {found.exact.spare:,} rows to "
    yield f"spare. {found.near.groups:,} groups of near codes, with {found.near.spare:,} to spare: two rows are joined "
    yield f"when at most {found.max_distance} of their {found.bits} bits differ, and joins go on from row to row. "
    yield "Distances are those from the first photo.</p>\n"
    if found.note:
        yield f"<p>{html_name(found.note)}.</p>\n"
    room = PHOTOS
    for number, group in enumerate(found.groups):
        if room <= 0:
            yield f"<p>{len(found.groups) - number:,} more groups are not shown.</p>\n"
            break
        room -= min(len(group.members), MEMBERS)
        yield from _section(group, photos)
    if not found.groups:
        yield "<p>No duplicates were found.</p>\n"
    yield "</html>\n"


def _section(group: Group, photos: Path) -> Iterator[str]:
    kind = "Equal files" if group.kind == "exact" else f"Near codes, up to {bits_apart(group.distance)} apart"
    yield f"<section>\n<p>{kind}: {len(group.members):,} photos</p>\n"
    first, *others = group.members[:MEMBERS]
    yield figure(inside(photos, first.path), "query", f"<b>first</b>{_named(first)}")
    yield "<div>\n"
    for one in others:
        caption = f"<b>{bits_apart(one.distance)}</b>{_named(one)}"
        yield figure(inside(photos, one.path), "", caption)
    yield "</div>\n"
    if len(group.members) > MEMBERS:
        yield f"<p>{len(group.members) - MEMBERS:,} more photos of this group are not shown.</p>\n"
    yield "</section>\n"


def _named(one: Member) -> str:
    """Class, whole path (copies often have one name in two folders), and own id."""
    own_id = f"<span>id: {html_name(one.own_id)}</span>" if one.own_id else ""
    return f"{html_name(one.label)}<span>{html_name(one.path)}</span>{own_id}"
