"""`milvus-fghash promote` and `rollback`: which collection an alias stands for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from milvus_fghash.cli.connection import Connection, server_options
from milvus_fghash.cli.messages import notify
from milvus_fghash.cli.options import journal_option, json_option
from milvus_fghash.cli.output import show_json, show_record
from milvus_fghash.cli.progress import progress_bar

if TYPE_CHECKING:
    from milvus_fghash.migration.promote import AliasChange


@click.command()
@click.argument("alias")
@click.argument("collection", required=False)
@click.option("--max-missing", type=click.IntRange(min=0), default=0,
              help="Rows of the version before that may be missing.")  # fmt: skip
@click.option("--unverified", is_flag=True, help="Take a collection that `reindex` did not find whole.")
@click.option("--keep", type=click.IntRange(min=1),
              help="Drop all previous versions but this many; needs --yes.  [default: all stay]")  # fmt: skip
@click.option("--yes", is_flag=True, help="Really drop them.")
@journal_option
@server_options
@json_option
def promote(
    alias: str,
    collection: str | None,
    max_missing: int,
    unverified: bool,
    keep: int | None,
    yes: bool,
    journal: Path | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Let ALIAS stand for the new COLLECTION.

    Searches with --collection-name ALIAS meet the old collection or the new one, never none and never one that is
    half-filled: just before, each row of the old one is looked up in the new one. What ALIAS stood for stays, and
    `rollback` goes back to it. Without COLLECTION, the one that `reindex` made is taken.

    An alias that does not exist is made; it cannot be called like a collection. So a catalog without one gets one:
    promote birds photos, and searches by birds from then on.

    \b
    Example: milvus-fghash promote birds
             milvus-fghash promote birds photos
    """
    if yes and keep is None:
        raise click.UsageError("--yes is about --keep; say how many previous versions stay")
    with connection.catalog(alias, journal=journal) as catalog, progress_bar("comparing"):
        moved = catalog.promote(collection, max_missing=max_missing, unverified=unverified)
        older = [] if keep is None else catalog.drop_previous(keep, dry_run=not yes)
    dropped = older if yes else []
    left = [name for name in moved.previous if name not in dropped]
    _show(moved, {"previous": left, **({} if keep is None else {"older": older, "dropped": dropped})}, as_json)
    if older and not yes:
        notify(f"{', '.join(older)} would be dropped; say --yes to do it")


@click.command()
@click.argument("alias")
@server_options
@json_option
def rollback(alias: str, connection: Connection, as_json: bool) -> None:
    """Let ALIAS stand for the version before again.

    The one that it stands for now stays as a collection: `promote` brings it back. Rows that were written to it only
    are not in the other: ingest takes their photos in.

    \b
    Example: milvus-fghash rollback birds
    """
    with connection.catalog(alias) as catalog:
        moved = catalog.rollback()
    _show(moved, {"previous": list(moved.previous)}, as_json)


def _show(moved: AliasChange, more: dict[str, object], as_json: bool) -> None:
    facts = {**asdict(moved), **more}
    if as_json:
        show_json(facts)
    else:
        show_record(facts)
