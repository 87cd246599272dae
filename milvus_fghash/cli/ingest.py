"""`milvus-fghash ingest`: photos -> codes -> Milvus."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from milvus_fghash.cli.connection import Connection, milvus_options
from milvus_fghash.cli.options import (
    PHOTOS,
    READABLE_FOLDER,
    consistency_option,
    decoding_options,
    encoder_options,
    index_options,
    journal_option,
    json_option,
    max_errors_option,
    namespace_option,
    reject_too_many,
    report_option,
    retry_option,
    row_options,
    rows_per_write_option,
    split_option,
)
from milvus_fghash.cli.output import show_json, show_record
from milvus_fghash.cli.photo_options import PhotoOptions, notify_found, photo_options
from milvus_fghash.cli.progress import progress_bar
from milvus_fghash.cli.stopping import finishing_when_interrupted

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
@click.option(
    "--retry-rejected",
    is_flag=True,
    help="Try photos again that were rejected, or whose rows were deleted, though they are the same.",
)
@click.option("--prune", is_flag=True, help="Delete the rows of photos that DATA no longer has.")
@click.option("--prune-at-most", type=click.FloatRange(0, 1), default=0.5,
              help="Part of the photos above which nothing is pruned, for a missing disk looks like that.")  # fmt: skip
@retry_option
@journal_option
@consistency_option(default="Bounded")
@click.option("--drop-if-exists", is_flag=True, help="Drop the collection first; needs --yes.")
@click.option("--yes", is_flag=True, help="Really drop it.")
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
    provider: str | None,
    threads: int,
    encode_timeout: float,
    workers: int | None,
    decode_timeout: float,
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
    """Encode the photos in DATA and write them into Milvus.

    What Milvus acknowledged is written down in a journal: a second run reads only photos that are new or changed, an
    interrupted one goes on where it was, and Ctrl-C finishes what was begun. Photos that cannot be read are counted
    and reported, all others get in; the exit code is 3 when there are more of them than --max-errors.

    \b
    Example: milvus-fghash ingest bundles/birds photos --split train --report rejected.jsonl
    """
    if drop_if_exists and not yes:
        raise click.UsageError("--drop-if-exists deletes all rows of the collection; say --yes if you mean it")
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
        workers=workers,
        decode_timeout=decode_timeout,
        retry_rejected=retry_rejected,
        prune=prune,
        prune_at_most=prune_at_most,
        retry=RetryPolicy(retry),
    )
    with (
        connection.catalog(
            bundle=bundle,
            settings=settings,
            journal=journal,
            provider=provider,
            threads=threads,
            encode_timeout=encode_timeout,
        ) as catalog,
        progress_bar("ingesting") as update,
        finishing_when_interrupted() as stop,
    ):
        if drop_if_exists and catalog.exists():
            catalog.drop()
        notify_found(found)
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
    facts = {"collection": name, **asdict(result), "journal": str(folder)}
    if as_json:
        show_json(facts)
    else:
        show_record(facts)
    rest = "All others are in" + (", but for deleted ones" if result.deleted else "")
    reject_too_many(result.rejected, len(dataset), max_errors, report, rest)
