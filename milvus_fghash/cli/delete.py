"""`milvus-fghash delete`: rows out of a collection."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from milvus_fghash.cli.connection import Connection, milvus_options
from milvus_fghash.cli.options import READABLE_FILE, journal_option, json_option, own_namespace_option
from milvus_fghash.cli.output import show_json, show_record
from milvus_fghash.cli.progress import progress_bar


@click.command()
@click.option(
    "--id", "ids", multiple=True, help="Delete this row: its own id, such as a SKU, or its id; may be repeated."
)
@click.option("--ids-file", type=READABLE_FILE, help="Delete the rows whose ids or own ids stand here, one a line.")
@own_namespace_option
@click.option("--filter", help="Delete the rows that fit a Milvus expression such as 'label == \"robin\"'.")
@click.option("--yes", is_flag=True, help="Really delete them.")
@journal_option
@milvus_options
@json_option
def delete(
    ids: tuple[str, ...],
    ids_file: Path | None,
    namespace: str | None,
    filter: str | None,
    yes: bool,
    journal: Path | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Delete rows of a collection by id or filter.

    An id of 32 hexadecimal digits is a row's; any other is looked for among the own ids of the rows first, those of the
    column `id` of a list of photos.

    Without --yes it counts the rows and deletes none. Photo files are never touched, and ingest does not take them in
    again until they change (or --retry-rejected). An id that is not there is no error; it is counted as missing.

    \b
    Example: milvus-fghash delete --filter 'meta["namespace"] == "shop"' --yes
             milvus-fghash delete --ids-file gone.txt
    """
    by_id = bool(ids or ids_file)
    if by_id == (filter is not None):
        raise click.UsageError("say which rows: either by --id and --ids-file, or by --filter")
    if namespace is not None and not by_id:
        raise click.UsageError('--namespace goes with --id and --ids-file; in a --filter say meta["namespace"]')
    from milvus_fghash.ingest.delete import read_ids

    wanted = [*ids, *(read_ids(ids_file) if ids_file else [])]
    with connection.catalog(journal=journal) as catalog, progress_bar("deleting" if yes else "counting"):
        result = catalog.delete(wanted if by_id else None, namespace=namespace, filter=filter, dry_run=not yes)
    if as_json:
        show_json(asdict(result))
    else:
        show_record(asdict(result), "" if yes else f"{result.found:,} rows would be deleted; say --yes to do it")
