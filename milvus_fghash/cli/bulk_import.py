"""`milvus-fghash bulk-import`: shards -> Milvus."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from milvus_fghash.cli.connection import Connection, milvus_options
from milvus_fghash.cli.messages import tell
from milvus_fghash.cli.options import READABLE_FOLDER, consistency_option, index_options, json_option, patience_option
from milvus_fghash.cli.output import show_json, show_record
from milvus_fghash.cli.progress import progress_bar
from milvus_fghash.cli.stopping import finishing_when_interrupted


@click.command("bulk-import")
@click.argument("folder", type=READABLE_FOLDER)
@index_options
@click.option("--bucket", metavar="URL", help="Copy the shards there first: Milvus' own bucket, such as "
              "s3://milvus-bucket/shards.  [default: Milvus reads them where they lie]")  # fmt: skip
@click.option("--at-once", type=click.IntRange(1, 1024), default=8, help="Import jobs under way at the same time.")
@click.option("--deadline", type=click.FloatRange(min=0), default=3600.0,
              help="Seconds without progress after which to stop waiting.")  # fmt: skip
@click.option("--sample", type=click.IntRange(min=0), default=100, help="Rows to read back and compare.")
@patience_option
@consistency_option(default="Bounded")
@milvus_options
@json_option
def bulk_import(
    folder: Path,
    index: str,
    nlist: int,
    bucket: str | None,
    at_once: int,
    deadline: float,
    sample: int,
    patience: float,
    consistency: str,
    connection: Connection,
    as_json: bool,
) -> None:
    """Import shards into Milvus by its bulk import.

    FOLDER is what `ingest --sink parquet` made. Checksums are looked at first, and every row after it. Milvus does not
    replace rows: a shard is sent only where none of its ids is in the collection. What was killed or failed goes on
    with the same command.

    \b
    Example: milvus-fghash bulk-import shards --uri http://localhost:19530 --bucket s3://milvus-bucket/shards
    """
    from milvus_fghash.bulk.destination import collection_for
    from milvus_fghash.bulk.folder import ShardFolder
    from milvus_fghash.bulk.importing import ImportOptions, ImportRun
    from milvus_fghash.bulk.jobs import jobs_of, refuse_lite
    from milvus_fghash.bulk.upload import Bucket, in_place
    from milvus_fghash.serving.patience import Patience

    refuse_lite(connection.target())
    shards = ShardFolder(folder)
    place = Bucket(bucket).put if bucket else in_place
    with shards.held():
        with progress_bar("checking") as update:
            markers = shards.whole(update)
        manifest = shards.manifest()
        assert manifest is not None
        with (
            closing(connection.connect()) as client,
            finishing_when_interrupted() as stop,
            progress_bar("importing") as update,
        ):
            jobs = jobs_of(connection.target(), client, connection.collection_name)
            collection = collection_for(
                manifest,
                client,
                connection.collection_name,
                index=index.upper(),
                nlist=nlist,
                consistency=consistency,
                tell=tell,
            )
            options = ImportOptions(at_once, deadline, sample, Patience(patience))
            result = ImportRun(shards, markers, collection, jobs, place, options, stop, tell, update).result()
    facts = {"collection": collection.name, **asdict(result)}
    if as_json:
        show_json(facts)
    else:
        show_record(facts)
