"""`milvus-fghash promote` and `rollback`: point an alias at another collection."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from milvus_fghash.cli.options.common import journal_option, json_option
from milvus_fghash.cli.options.connection import Connection, server_options
from milvus_fghash.cli.terminal.messages import notify
from milvus_fghash.cli.terminal.output import show
from milvus_fghash.cli.terminal.progress import progress_bar

if TYPE_CHECKING:
    from milvus_fghash.migration.promote import AliasChange


@click.command()
@click.argument("alias")
@click.argument("collection", required=False)
@click.option("--max-missing", type=click.IntRange(min=0), default=0,
              help="Largest number of rows of the current collection that may be missing in the new one.")  # fmt: skip
@click.option(
    "--allow-unverified",
    "unverified",
    is_flag=True,
    help="Accept a collection that `reindex` did not verify on this machine.",
)
@click.option("--keep", type=click.IntRange(min=1),
              help="Number of previous collections to keep; older ones are dropped (needs --yes).  "
              "[default: keep all]")  # fmt: skip
@click.option("--yes", is_flag=True, help="Confirm that previous collections are dropped.")
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
    """Point ALIAS at a new COLLECTION.

    COLLECTION defaults to the one that `reindex` created. First, every row of the old collection is looked up in the
    new one; then the alias switches atomically. The old collection stays, and `rollback` returns to it.

    If ALIAS does not exist it is created: after `promote birds photos`, use --collection-name birds everywhere. An
    alias cannot have the name of a collection.

    \b
    Example: milvus-fghash promote birds
             milvus-fghash promote birds photos
    """
    if yes and keep is None:
        raise click.UsageError("--yes needs --keep")
    with connection.catalog(alias, journal=journal) as catalog, progress_bar("comparing"):
        moved = catalog.promote(collection, max_missing=max_missing, unverified=unverified)
        older = [] if keep is None else catalog.drop_previous(keep, dry_run=not yes)
    dropped = older if yes else []
    left = [name for name in moved.previous if name not in dropped]
    _show(moved, {"previous": left, **({} if keep is None else {"older": older, "dropped": dropped})}, as_json)
    if older and not yes:
        notify(f"{', '.join(older)} would be dropped; confirm with --yes")


@click.command()
@click.argument("alias")
@server_options
@json_option
def rollback(alias: str, connection: Connection, as_json: bool) -> None:
    """Point ALIAS back at the previous collection.

    The current collection stays, and `promote` returns to it. Rows that were written only to the current collection
    are not in the previous one; ingest their photos again.

    \b
    Example: milvus-fghash rollback birds
    """
    with connection.catalog(alias) as catalog:
        moved = catalog.rollback()
    _show(moved, {"previous": list(moved.previous)}, as_json)


def _show(moved: AliasChange, more: dict[str, object], as_json: bool) -> None:
    show({**asdict(moved), **more}, as_json)
