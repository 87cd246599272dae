"""`milvus-fghash dedupe`: find groups of duplicate photos."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.options.common import journal_option, json_option
from milvus_fghash.cli.options.connection import Connection, milvus_options
from milvus_fghash.cli.options.paths import NEW_PATH, READABLE_FILE, READABLE_FOLDER, check_outputs
from milvus_fghash.cli.terminal.messages import notify
from milvus_fghash.cli.terminal.output import show_json, show_table
from milvus_fghash.cli.terminal.progress import progress_bar

if TYPE_CHECKING:
    from milvus_fghash.dedupe.grouping import Kind
    from milvus_fghash.dedupe.report import Duplicates, Keep

MAX_PATHS_SHOWN = 4
"""Per group in the table; --out, --csv and --json contain all."""
MAX_PHOTOS_CHECKED = 2000
"""Photos that are looked up in --photos, to warn about a wrong folder."""


@click.command()
@click.option("--max-distance", type=click.IntRange(min=0),
              help="Also join photos whose codes differ in at most this number of bits.  [default: as in --previous; "
              "codes are compared only if no perceptual hash is known: bits / 8 - 5, at least 0]")  # fmt: skip
@click.option("--previous", type=READABLE_FILE,
              help="Result (--out) of an earlier run: only what changed since then is searched for near codes, and "
              "photos are not read again.")  # fmt: skip
@click.option("--out", type=NEW_PATH, help="Write the result to this JSON file, for use with --previous.")
@click.option("--csv", "csv_file", type=NEW_PATH,
              help="Write one line per row of a group. Texts that a spreadsheet would evaluate (=1+1) are prefixed "
              "with an apostrophe; --out and --json are unchanged.")  # fmt: skip
@click.option("--html", type=NEW_PATH,
              help="Write the groups to an HTML page that contains the photos; large results continue in "
              "PAGE-2.html.")  # fmt: skip
@click.option("--photos", type=READABLE_FOLDER,
              help="Folder from which the photos were ingested, for --html and for perceptual hashes that the "
              "collection does not store.")  # fmt: skip
@click.option("--confirm-within", type=click.IntRange(0, 64),
              help="Largest Hamming distance of the perceptual hashes (64 bits) of copies.  [default: as in "
              "--previous, else 3]")  # fmt: skip
@click.option("--delete", "kinds", type=click.Choice(["exact", "near"]), multiple=True,
              help="Delete confirmed copies in groups of this kind; one row per group is kept. May be repeated. Needs "
              "--yes.")  # fmt: skip
@click.option("--delete-at-most", type=click.FloatRange(0, 1), default=0.1,
              help="Delete nothing if more than this fraction of the rows would be deleted.")  # fmt: skip
@click.option("--keep", type=click.Choice(["first", "last"]), default="first",
              help="Row of a group that --delete keeps: the first or the last by path.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Confirm --delete.")
@journal_option
@milvus_options
@json_option
def dedupe(
    max_distance: int | None,
    previous: Path | None,
    out: Path | None,
    csv_file: Path | None,
    html: Path | None,
    photos: Path | None,
    confirm_within: int | None,
    kinds: tuple[Kind, ...],
    delete_at_most: float,
    keep: Keep,
    yes: bool,
    journal: Path | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Find groups of duplicate photos in a collection.

    Exact duplicates are files with the same SHA-256. Near duplicates have perceptual hashes within --confirm-within
    bits, whatever model made the codes; neighbours of neighbours join the same group. A row can be in one group of each
    kind.

    Perceptual hashes compare the shapes and colours of the whole photo. They do not find mirrored and grey copies, nor
    most that are cropped by 10 % or more, and can take different photos for copies that differ in a small part (the
    number on a shirt) or in brightness (black or grey). ingest stores them; for a collection without them, they are
    computed from the photos in --photos or in the folder of the ingest. See docs/duplicates.md for measurements.

    With --max-distance, photos with near codes join the groups too. They are candidates to look at: a model that
    learned classes gives all photos of a class near codes. Only copies that the perceptual hash confirms are deleted.

    Rows are deleted only with --delete and --yes, only confirmed copies, and only up to --delete-at-most; --delete
    without --yes counts them. Review the groups (--html) first. Photo files are never deleted. Deleted photos are not
    ingested again until their content changes, unless `ingest` is run with --retry-rejected.

    \b
    Example: milvus-fghash dedupe --out groups.json --html groups.html --photos photos
             milvus-fghash dedupe --previous groups.json --out groups.json
             milvus-fghash dedupe --delete exact --keep first --yes
    """
    if html and photos is None:
        raise click.UsageError("--html needs --photos, the folder from which the photos were ingested")
    if yes and not kinds:
        raise click.UsageError("--yes needs --delete exact or --delete near")
    for option, path in (("--out", out), ("--csv", csv_file), ("--html", html)):
        if path and path.is_dir():
            raise click.UsageError(f"{option} {path} is a folder; expected a file")
    from milvus_fghash.dedupe.page import write_duplicates_page
    from milvus_fghash.dedupe.report import Duplicates, redundant_rows, write_csv
    from milvus_fghash.search.gallery import missing_photos

    earlier = Duplicates.read(previous) if previous else None
    with connection.catalog(journal=journal) as catalog:
        for place in [*([photos] if photos else []), *sorted(catalog.photo_sources())]:
            check_outputs(place, out, csv_file, html)
        with progress_bar("searching") as update:
            found = catalog.dedupe(
                max_distance=max_distance,
                previous=earlier,
                confirm_within=confirm_within,
                photos=[photos] if photos else [],
                progress=update,
            )
        if out:
            found.write(out)
        if csv_file:
            write_csv(csv_file, found.groups)
        if html and photos:
            with progress_bar("writing the page"):
                write_duplicates_page(html, found, photos)
            paths = (one.path for group in found.groups for one in group.members)
            if line := missing_photos(photos, islice(paths, MAX_PHOTOS_CHECKED)):
                notify(f"Warning: {line} (--photos)", logging.WARNING)
        spare = redundant_rows(found.groups, kinds, keep, found.confirmed_within)
        deleted = 0
        if yes:  # after the files, which then document what was deleted
            with progress_bar("deleting"):
                deleted = catalog.delete_duplicates(found, kinds, keep=keep, delete_at_most=delete_at_most)
    deletion = {"kinds": list(kinds), "keep": keep, "ids": spare, "deleted": deleted} if kinds else None
    if as_json:
        show_json({**found.summary(), "deletion": deletion})
    else:
        lines = _summary(found, len(spare) if kinds else None, deleted if yes else None, delete_at_most)
        show_table(_rows(found), "\n".join(lines))


def _rows(found: Duplicates) -> list[dict[str, Any]]:
    """One row per group."""
    rows = []
    for group in found.groups:
        paths = [f"{one.path} ({one.own_id})" if one.own_id else one.path for one in group.members[:MAX_PATHS_SHOWN]]
        more = len(group.members) - len(paths)
        rows.append(
            {
                "kind": group.kind,
                "photos": len(group.members),
                "code bits apart": group.distance,
                "copies": group.confirmed,
                "paths": [*paths, *([f"and {more:,} more"] if more else [])],
            }
        )
    return rows


def _summary(found: Duplicates, spare: int | None, deleted: int | None, at_most: float) -> list[str]:
    """The lines below the table."""
    from milvus_fghash.core.html import counted
    from milvus_fghash.dedupe.report import what_is_near

    lines = [
        f"{counted(found.n_rows, 'row')}; exact: {counted(found.exact.groups, 'group')}, "
        f"{counted(found.exact.redundant, 'redundant row')}; near ({what_is_near(found)}): "
        f"{counted(found.near.groups, 'group')}, {counted(found.near.redundant, 'redundant row')}, "
        f"{found.near.confirmed:,} of them confirmed copies"
    ]
    if found.phashes:
        lines.append(f"{len(found.phashes):,} perceptual hashes that the collection does not store are from the photos")
    if found.n_without_phash:
        lines.append(
            f"{found.n_without_phash:,} rows have no perceptual hash, so copies of them are not found except equal "
            "files: the collection does not store it and the photo was not found (--photos), or the photo has no "
            "structure"
        )
    if found.note:
        lines.append(found.note)
    if deleted is not None:
        lines.append(f"{deleted:,} rows were deleted from the collection")
    elif spare is not None:
        lines.append(f"{spare:,} rows would be deleted; confirm with --yes")
        if spare > at_most * found.n_rows:
            lines.append(
                f"That is more than --delete-at-most {at_most:g} allows; review the groups before you raise it"
            )
    return lines
