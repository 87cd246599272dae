"""`milvus-fghash dedupe`: a collection -> groups of duplicates."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.connection import Connection, milvus_options
from milvus_fghash.cli.messages import notify
from milvus_fghash.cli.options import (
    NEW_PATH,
    READABLE_FILE,
    READABLE_FOLDER,
    journal_option,
    json_option,
    keep_away,
)
from milvus_fghash.cli.output import show_json, show_table
from milvus_fghash.cli.progress import progress_bar

if TYPE_CHECKING:
    from milvus_fghash.dedupe.grouping import Kind
    from milvus_fghash.dedupe.report import Duplicates, Keep

PATHS_SHOWN = 4
"""Of a group in the table; --out, --csv and --json have all."""
LOOKED_FOR = 2000
"""Photos of groups that are looked for in --photos, to tell whether it is the right folder."""


@click.command()
@click.option("--max-distance", type=click.IntRange(min=0),
              help="Most bits in which near duplicates differ.  [default: that of --previous, else an eighth of "
              "the bits less 5: 0 below 48, 1 of 48, 3 of 64, 11 of 128]")  # fmt: skip
@click.option("--previous", type=READABLE_FILE,
              help="What an earlier run wrote with --out: only what changed since then is searched.")  # fmt: skip
@click.option("--out", type=NEW_PATH, help="Write the result as JSON, for --previous too.")
@click.option("--csv", "csv_file", type=NEW_PATH,
              help="Write one line for each row of a group. A text that a spreadsheet would compute (=1+1) gets an "
              "apostrophe in front; --out and --json have it as it is.")  # fmt: skip
@click.option("--html", type=NEW_PATH,
              help="Write the groups as an HTML page, photos inside; large ones go on in PAGE-2.html.")  # fmt: skip
@click.option("--photos", type=READABLE_FOLDER,
              help="Folder the photos were ingested from, for --html, and for perceptual hashes that the collection "
              "does not keep.")  # fmt: skip
@click.option("--confirm-within", type=click.IntRange(0, 64), default=3,
              help="Most bits of 64 in which perceptual hashes of copies differ.")  # fmt: skip
@click.option("--delete", "kinds", type=click.Choice(["exact", "near"]), multiple=True,
              help="Delete rows of groups of this kind, if they are confirmed copies of rows that stay; may be "
              "repeated. Needs --yes.")  # fmt: skip
@click.option("--delete-at-most", type=click.FloatRange(0, 1), default=0.1,
              help="Delete nothing when more than this fraction of the rows would go: codes that tell too little look "
              "like that.")  # fmt: skip
@click.option("--keep", type=click.Choice(["first", "last"]), default="first",
              help="Row of a group that --delete leaves: the first or the last one by path.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Really delete them.")
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
    confirm_within: int,
    kinds: tuple[Kind, ...],
    delete_at_most: float,
    keep: Keep,
    yes: bool,
    journal: Path | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Find groups of duplicate photos in a collection.

    Exact duplicates are equal files (one SHA-256). Near duplicates have codes that differ in at most --max-distance
    bits; joins go on from row to row. A row may be in a group of each kind.

    Near codes are a hint, no proof. Short codes cannot tell photos apart: 12 bits know 4,096 codes. And a model that
    learned classes gives all photos of a class nearly one code. So near groups are candidates: of these, copies are
    confirmed by perceptual hashes of the photos, which ingest keeps; where a collection has none, they are computed
    from the photos, as far as they lie in --photos or where they were ingested from. They see the shapes and colours
    of a whole photo; a small print ("7" or "10" on a shirt), and how dark a thing is (black or grey), can be beyond
    them. docs/duplicates.md has figures.

    Nothing is deleted without --delete and --yes, nothing that is not confirmed, and nothing at all when it is more
    than --delete-at-most. --delete alone counts the rows. Look at the page (--html) before. Photo files are never
    touched; ingest takes them in again when they change, or with --retry-rejected.

    \b
    Example: milvus-fghash dedupe --out groups.json --html groups.html --photos photos
             milvus-fghash dedupe --previous groups.json --out groups.json
             milvus-fghash dedupe --delete exact --keep first --yes
    """
    if html and photos is None:
        raise click.UsageError("--html needs --photos, the folder the photos were ingested from")
    if yes and not kinds:
        raise click.UsageError("--yes is about --delete; say --delete exact or --delete near")
    for option, path in (("--out", out), ("--csv", csv_file), ("--html", html)):
        if path and path.is_dir():
            raise click.UsageError(f"{option} {path} is a folder; give a file")
    from milvus_fghash.dedupe.page import write_duplicates_page
    from milvus_fghash.dedupe.report import Duplicates, redundant_rows, write_csv
    from milvus_fghash.search.gallery import missing_photos

    earlier = Duplicates.read(previous) if previous else None
    with connection.catalog(journal=journal) as catalog:
        for place in [*([photos] if photos else []), *sorted(catalog.places_of_photos())]:
            keep_away(place, out, csv_file, html)
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
            if line := missing_photos(photos, islice(paths, LOOKED_FOR)):
                notify(f"Warning: {line} (--photos)", logging.WARNING)
        spare = redundant_rows(found.groups, kinds, keep, confirm_within)
        deleted = 0
        if yes:  # last: what was deleted is then on record
            with progress_bar("deleting"):
                deleted = catalog.delete_duplicates(found, kinds, keep=keep, delete_at_most=delete_at_most)
    deletion = {"kinds": list(kinds), "keep": keep, "ids": spare, "deleted": deleted} if kinds else None
    if as_json:
        show_json({**found.summary(), "deletion": deletion})
    else:
        said = _said(found, len(spare) if kinds else None, deleted if yes else None, delete_at_most)
        show_table(_rows(found), "\n".join(said))


def _rows(found: Duplicates) -> list[dict[str, Any]]:
    """One line a group."""
    rows = []
    for group in found.groups:
        paths = [f"{one.path} ({one.own_id})" if one.own_id else one.path for one in group.members[:PATHS_SHOWN]]
        more = len(group.members) - len(paths)
        rows.append(
            {
                "kind": group.kind,
                "photos": len(group.members),
                "bits apart": group.distance,
                "copies": group.confirmed,
                "paths": [*paths, *([f"and {more:,} more"] if more else [])],
            }
        )
    return rows


def _said(found: Duplicates, spare: int | None, deleted: int | None, at_most: float) -> list[str]:
    """Lines below the table."""
    lines = [
        f"{found.n_rows:,} rows; exact: {found.exact.groups:,} groups, {found.exact.redundant:,} redundant rows; "
        f"near (at most {found.max_distance} of {found.bits} bits): {found.near.groups:,} groups, "
        f"{found.near.redundant:,} redundant rows, {found.near.confirmed:,} of them confirmed copies"
    ]
    if found.n_without_phash:
        lines.append(
            f"{found.n_without_phash:,} rows of near groups have no perceptual hash: the collection was made before it "
            "kept any and the photos were not found (--photos), or they show nothing. They stay"
        )
    if found.note:
        lines.append(found.note)
    if deleted is not None:
        lines.append(f"{deleted:,} rows were deleted from the collection")
    elif spare is not None:
        lines.append(f"{spare:,} rows would be deleted; say --yes to do it")
        if spare > at_most * found.n_rows:
            lines.append(
                f"That is more than --delete-at-most {at_most:g} allows: look at the groups before you allow more"
            )
    return lines
