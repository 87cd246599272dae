"""`milvus-fghash dedupe`: a collection -> groups of duplicates."""

from __future__ import annotations

import logging
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.connection import Connection, milvus_options
from milvus_fghash.cli.messages import tell
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
    from milvus_fghash.duplicates import Kind
    from milvus_fghash.duplicates_record import Duplicates, Keep

PATHS_SHOWN = 4
"""Of a group in the table; --out, --csv and --json have all."""


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
@click.option("--html", type=NEW_PATH, help="Write the groups as one HTML page, photos inside.")
@click.option("--photos", type=READABLE_FOLDER, help="Folder the photos were ingested from, for --html.")
@click.option("--delete", "kinds", type=click.Choice(["exact", "near"]), multiple=True,
              help="Delete all rows but one of each group of this kind; may be repeated. Needs --yes.")  # fmt: skip
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
    kinds: tuple[Kind, ...],
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
    learned classes gives all photos of a class nearly one code. What helps: a bundle of lsh with 128 bits or more, a
    smaller --max-distance, and a look at the page (--html) before anything goes. The more rows, the smaller the
    distance has to be. docs/duplicates.md has figures.

    Nothing is deleted without --delete and --yes. --delete alone counts the rows. Photo files are never touched; ingest
    takes them in again when they change, or with --retry-refused.

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
    from milvus_fghash.duplicates_record import Duplicates, spare_rows, write_csv
    from milvus_fghash.serving.collection import HashCollection
    from milvus_fghash.serving.dedupe import find_duplicates
    from milvus_fghash.serving.deleting import delete_ids
    from milvus_fghash.serving.duplicates_page import PHOTOS, write_duplicates_page
    from milvus_fghash.serving.gallery import absent
    from milvus_fghash.serving.journal import Journal
    from milvus_fghash.serving.run_record import places_of_photos

    earlier = Duplicates.read(previous) if previous else None
    with closing(connection.connect()) as client:
        collection = HashCollection.open(client, connection.collection_name)
        folder = connection.journal_folder(collection.name, journal)
        for place in sorted({*places_of_photos(folder), *([photos] if photos else [])}):
            keep_away(place, out, csv_file, html)
        with progress_bar("searching") as update:
            found = find_duplicates(collection, max_distance, earlier, update)
        if out:
            found.write(out)
        if csv_file:
            write_csv(csv_file, found.groups)
        if html and photos:
            with progress_bar("writing the page"):
                write_duplicates_page(html, found, photos)
            paths = (one.path for group in found.groups for one in group.members)
            if line := absent(photos, islice(paths, PHOTOS)):
                tell(f"Warning: {line} (--photos)", logging.WARNING)
        spare = spare_rows(found.groups, kinds, keep)
        deleted = 0
        if yes:  # last: what was deleted is then on record
            with Journal.if_there(folder, collection.note.born) as opened, progress_bar("deleting"):
                deleted = delete_ids(collection, spare, yes, opened).deleted
    deletion = {"kinds": list(kinds), "keep": keep, "ids": spare, "deleted": deleted} if kinds else None
    if as_json:
        show_json({**found.shown(), "deletion": deletion})
    else:
        show_table(_rows(found), "\n".join(_said(found, len(spare) if kinds else None, deleted if yes else None)))


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
                "paths": [*paths, *([f"and {more:,} more"] if more else [])],
            }
        )
    return rows


def _said(found: Duplicates, spare: int | None, deleted: int | None) -> list[str]:
    """Lines below the table."""
    lines = [
        f"{found.n_rows:,} rows; exact: {found.exact.groups:,} groups, {found.exact.spare:,} rows to spare; "
        f"near (at most {found.max_distance} of {found.bits} bits): {found.near.groups:,} groups, "
        f"{found.near.spare:,} rows to spare"
    ]
    if found.note:
        lines.append(found.note)
    if deleted is not None:
        lines.append(f"{deleted:,} rows were deleted from the collection")
    elif spare is not None:
        lines.append(f"{spare:,} rows would be deleted; say --yes to do it")
    return lines
