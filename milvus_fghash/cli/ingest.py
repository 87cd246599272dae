"""`milvus-fghash ingest`: photos -> codes -> Milvus."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.options.common import (
    check_rejected,
    consistency_option,
    decoding_options,
    encoder_options,
    index_options,
    journal_option,
    json_option,
    max_errors_option,
    namespace_option,
    report_option,
    retry_option,
    row_options,
    rows_per_write_option,
    split_option,
)
from milvus_fghash.cli.options.connection import Connection, milvus_options
from milvus_fghash.cli.options.paths import PHOTOS, READABLE_FOLDER
from milvus_fghash.cli.options.photos import PhotoOptions, notify_dataset, photo_options
from milvus_fghash.cli.terminal.interrupt import stop_on_interrupt
from milvus_fghash.cli.terminal.output import show
from milvus_fghash.cli.terminal.progress import progress_bar

if TYPE_CHECKING:
    from milvus_fghash.datasets.read import Url
    from milvus_fghash.milvus.collection import Consistency
    from milvus_fghash.milvus.schema import IndexType


@click.command()
@click.argument("bundle", type=READABLE_FOLDER)
@click.argument("data", type=PHOTOS)
@photo_options()
@split_option
@index_options
@namespace_option
@row_options
@rows_per_write_option
@encoder_options
@decoding_options
@report_option
@max_errors_option
@click.option("--retry-rejected", is_flag=True,
              help="Also process unchanged photos that were rejected or whose rows were deleted before.")  # fmt: skip
@click.option("--prune", is_flag=True, help="Delete the rows of photos that are no longer in DATA.")
@click.option("--prune-at-most", type=click.FloatRange(0, 1), default=0.5,
              help="Do not prune when more than this fraction of the photos has vanished (for example an unmounted "
              "disk).")  # fmt: skip
@retry_option
@journal_option
@consistency_option(default="Bounded")
@click.option("--drop-if-exists", is_flag=True, help="Drop the collection first; needs --yes.")
@click.option("--yes", is_flag=True, help="Confirm --drop-if-exists.")
@milvus_options
@json_option
def ingest(
    bundle: Path,
    data: Path | Url,
    reading: PhotoOptions,
    split: str | None,
    index: IndexType | None,
    nlist: int,
    namespace: str,
    code_hex: bool,
    embedding: bool,
    phash: bool | None,
    columns: tuple[str, ...],
    partition_key: str | None,
    rows_per_write: int,
    encoding: dict[str, Any],
    decoding: dict[str, Any],
    report: Path | None,
    max_errors: int,
    retry_rejected: bool,
    prune: bool,
    prune_at_most: float,
    retry: float,
    journal: Path | None,
    consistency: Consistency,
    drop_if_exists: bool,
    yes: bool,
    connection: Connection,
    as_json: bool,
) -> None:
    """Encode the photos in DATA and write them to Milvus.

    BUNDLE is the model that `export` wrote. A journal records the rows that Milvus acknowledged: a second run
    processes only new and changed photos, an interrupted run resumes, and Ctrl-C finishes the batches in progress.
    Photos that cannot be read are counted and reported; all others are stored. The exit code is 3 if more photos than
    --max-errors are rejected.

    \b
    Example: milvus-fghash ingest bundles/birds photos --split train --report rejected.jsonl
    """
    if drop_if_exists and not yes:
        raise click.UsageError("--drop-if-exists deletes all rows of the collection; confirm with --yes")
    from milvus_fghash.ingest.api import IngestOptions
    from milvus_fghash.milvus.retry import RetryPolicy
    from milvus_fghash.milvus.settings import CollectionSettings

    found = reading.read(data, report)
    dataset = found.split(split) if split else found
    settings = CollectionSettings(
        index=index,
        nlist=nlist,
        code_hex=code_hex,
        embedding=embedding,
        columns=columns,
        partition_key=partition_key,
        phash=phash,
        consistency=consistency,
    )
    options = IngestOptions(
        rows_per_write=rows_per_write,
        **decoding,
        retry_rejected=retry_rejected,
        prune=prune,
        prune_at_most=prune_at_most,
        retry=RetryPolicy(retry),
    )
    with (
        connection.catalog(bundle=bundle, settings=settings, journal=journal, **encoding) as catalog,
        progress_bar("ingesting") as update,
        stop_on_interrupt() as stop,
    ):
        if drop_if_exists and catalog.exists():
            catalog.drop()
        notify_dataset(found)
        result = catalog.ingest(
            dataset,
            selection=reading.selection,
            namespace=namespace,
            options=options,
            report=report,
            stop=stop,
            progress=update,
        )
        name, folder = catalog.collection.name, catalog.journal_folder
    show({"collection": name, **asdict(result), "journal": str(folder)}, as_json)
    others = "All other photos are stored" + (", except deleted ones" if result.deleted else "")
    check_rejected(result.rejected, len(dataset), max_errors, report, others)
