"""`milvus-fghash delete`: remove rows from a collection."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from milvus_fghash.cli.options.common import journal_option, json_option, own_namespace_option
from milvus_fghash.cli.options.connection import Connection, milvus_options
from milvus_fghash.cli.options.paths import READABLE_FILE
from milvus_fghash.cli.terminal.output import show
from milvus_fghash.cli.terminal.progress import progress_bar


@click.command()
@click.option("--id", "ids", multiple=True, help="Own id (such as a SKU) or row id to delete. May be repeated.")
@click.option("--ids-file", type=READABLE_FILE, help="File with one own id or row id per line.")
@own_namespace_option
@click.option("--filter", help="Milvus filter expression that selects the rows, such as 'label == \"robin\"'.")
@click.option("--yes", is_flag=True, help="Delete the rows. Without it they are only counted.")
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

    An id is looked up among the own ids (column `id` of the photo list) first; 32 hexadecimal digits may also be a row
    id. Ids that are not found are counted as missing; they are no error.

    Photo files are never deleted. Deleted photos are not ingested again until their content changes, unless `ingest` is
    run with --retry-rejected.

    \b
    Example: milvus-fghash delete --filter 'meta["namespace"] == "shop"' --yes
             milvus-fghash delete --ids-file gone.txt
    """
    by_id = bool(ids or ids_file)
    if by_id == (filter is not None):
        raise click.UsageError("select the rows either by --id and --ids-file, or by --filter")
    if namespace is not None and not by_id:
        raise click.UsageError('--namespace applies to --id and --ids-file; in --filter use meta["namespace"]')
    from milvus_fghash.ingest.delete import read_ids

    wanted = [*ids, *(read_ids(ids_file) if ids_file else [])]
    with connection.catalog(journal=journal) as catalog, progress_bar("deleting" if yes else "counting"):
        result = catalog.delete(wanted if by_id else None, namespace=namespace, filter=filter, dry_run=not yes)
    show(asdict(result), as_json, "" if yes else f"{result.found:,} rows would be deleted; confirm with --yes")
