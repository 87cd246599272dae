"""`milvus-fghash collections`: list and drop the collections of a Milvus."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from milvus_fghash.cli.options.common import journal_option, json_option
from milvus_fghash.cli.options.connection import Connection, server_options
from milvus_fghash.cli.terminal.messages import notify
from milvus_fghash.cli.terminal.output import show_json, show_table

ID_DIGITS = 12
"""Digits of a fingerprint or lineage in the table, as in error messages; --json shows all."""


@click.group()
def collections() -> None:
    """List or drop collections."""


@collections.command("list")
@server_options
@json_option
def list_(connection: Connection, as_json: bool) -> None:
    """List the collections and the models that filled them.

    \b
    Example: milvus-fghash collections list --uri http://localhost:19530
    """
    from milvus_fghash.milvus.collections import list_collections

    with closing(connection.connect()) as client:
        rows = [found.model_dump(mode="json") for found in list_collections(client)]
    if as_json:
        show_json(rows)
    else:
        show_table([{name: _short(name, value) for name, value in row.items()} for row in rows])


@collections.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Confirm that the collection is dropped.")
@journal_option
@server_options
def drop(name: str, yes: bool, journal: Path | None, connection: Connection) -> None:
    """Drop the collection NAME with all its rows, and its journal.

    \b
    Example: milvus-fghash collections drop photos --yes
    """
    if not yes:
        raise click.UsageError(f"dropping {name!r} deletes all its rows; confirm with --yes")
    from milvus_fghash.ingest.delete import drop_with_journal

    with closing(connection.connect()) as client:
        drop_with_journal(client, name, connection.journal_folder(name, journal))
    notify(f"dropped {name}")


def _short(name: str, value: Any) -> Any:
    return value[:ID_DIGITS] if name in ("lineage", "fingerprint") and value else value
