"""`milvus-fghash ingest`: photos -> codes -> Milvus."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from milvus_fghash.cli.connection import Connection, milvus_options
from milvus_fghash.cli.messages import tell
from milvus_fghash.cli.options import (
    PHOTOS,
    READABLE_FOLDER,
    batch_size_option,
    consistency_option,
    decoding_options,
    encoder_options,
    index_options,
    journal_option,
    json_option,
    max_errors_option,
    namespace_option,
    patience_option,
    refuse_too_many,
    report_option,
    split_option,
)
from milvus_fghash.cli.output import show_json, show_record
from milvus_fghash.cli.photo_options import PhotoOptions, photo_options, tell_found
from milvus_fghash.cli.progress import progress_bar
from milvus_fghash.cli.sinks import check_sink, into_shards, sink_options
from milvus_fghash.cli.stopping import finishing_when_interrupted
from milvus_fghash.errors import ConfigError
from milvus_fghash.whole_file import write_whole

if TYPE_CHECKING:
    from milvus_fghash.data import Url


@click.command()
@click.argument("bundle", type=READABLE_FOLDER)
@click.argument("data", type=PHOTOS)
@photo_options()
@split_option
@sink_options
@index_options
@namespace_option
@click.option("--code-hex", is_flag=True, help="Keep the code as text too; cheaper to fetch than the vector.")
@click.option("--embedding", is_flag=True, help="Keep the bundle's embedding too.")
@click.option("--phash/--no-phash", default=True,
              help="Keep a perceptual hash of each photo, 8 bytes: dedupe confirms near duplicates by it.")  # fmt: skip
@click.option("--column", "columns", metavar="NAME[:TYPE]", multiple=True,
              help="Give a new collection this column of DATA, for filters; TYPE is text, int64, double or bool. The "
              "others go into `meta`. May be repeated.  [default: TYPE of the cells; of CSV: text]")  # fmt: skip
@click.option("--partition-key", metavar="NAME", help="Of these columns, the one by which a server parts the rows.")
@batch_size_option
@encoder_options
@decoding_options
@report_option
@max_errors_option
@click.option(
    "--retry-refused",
    is_flag=True,
    help="Try photos again that were refused, or whose rows were deleted, though they are the same.",
)
@click.option("--prune", is_flag=True, help="Delete the rows of photos that DATA no longer has.")
@click.option("--prune-at-most", type=click.FloatRange(0, 1), default=0.5,
              help="Part of the photos above which nothing is pruned, for a missing disk looks like that.")  # fmt: skip
@patience_option
@journal_option
@consistency_option(default="Bounded")
@click.option("--drop-if-exists", is_flag=True, help="Drop the collection first; needs --yes.")
@click.option("--yes", is_flag=True, help="Really drop it.")
@milvus_options
@json_option
@click.pass_context
def ingest(
    ctx: click.Context,
    bundle: Path,
    data: Path | Url,
    reading: PhotoOptions,
    split: str | None,
    sink: str,
    shards: Path | None,
    shard_rows: int,
    engine: str,
    ray_actors: int | None,
    gpus_per_actor: float,
    ray_address: str | None,
    index: str,
    nlist: int,
    namespace: str,
    code_hex: bool,
    embedding: bool,
    phash: bool,
    columns: tuple[str, ...],
    partition_key: str | None,
    batch_size: int,
    provider: str | None,
    threads: int,
    encode_timeout: float,
    workers: int | None,
    decode_timeout: float,
    report: Path | None,
    max_errors: int,
    retry_refused: bool,
    prune: bool,
    prune_at_most: float,
    patience: float,
    journal: Path | None,
    consistency: str,
    drop_if_exists: bool,
    yes: bool,
    connection: Connection,
    as_json: bool,
) -> None:
    """Encode the photos in DATA and write them into Milvus.

    With --sink parquet, write shards that `bulk-import` sends to Milvus; the same command makes those that are missing.

    What Milvus acknowledged is written down in a journal: a second run reads only photos that are new or changed, an
    interrupted one goes on where it was, and Ctrl-C finishes what was begun. Photos that cannot be read are counted
    and reported, all others get in; the exit code is 3 when there are more of them than --max-errors.

    \b
    Example: milvus-fghash ingest bundles/birds photos --split train --report refused.jsonl
    """
    check_sink(ctx)
    if drop_if_exists and not yes:
        raise click.UsageError("--drop-if-exists deletes all rows of the collection; say --yes if you mean it")
    from milvus_fghash.serving.collection import HashCollection
    from milvus_fghash.serving.decoding import WORKERS
    from milvus_fghash.serving.deleting import drop_with_journal
    from milvus_fghash.serving.encoder import Encoder
    from milvus_fghash.serving.ingest import IngestOptions
    from milvus_fghash.serving.ingest import ingest as run
    from milvus_fghash.serving.journal import Journal
    from milvus_fghash.serving.patience import Patience
    from milvus_fghash.serving.scalar_columns import asked_columns

    found = reading.read(data, report, shards)
    listing = found.split(split) if split else found
    asked_for = asked_columns(columns, listing.cells)
    listing = listing.as_columns(asked_for)
    # Where actors encode, this process only looks into the bundle.
    provider = "cpu" if engine == "ray" else provider
    encoder = Encoder.open(
        bundle, provider=provider, threads=threads, for_many=engine != "ray", encode_timeout=encode_timeout
    )
    if embedding and encoder.embedding_dim is None:
        raise ConfigError(
            f"{bundle} gives no embedding; export it again with --output embedding, or leave --embedding out"
        )
    if report:
        write_whole(report, b"")  # before a collection is made for a run that cannot report
    if shards:
        tell_found(found)
        into_shards(encoder, listing, data, report, ctx.params)
        return
    name = connection.collection_name
    with closing(connection.connect(may_create=True)) as client, progress_bar("ingesting") as update:
        if drop_if_exists and client.has_collection(name):
            drop_with_journal(client, name, connection.journal_folder(name, journal))
        collection = HashCollection.open_or_create(
            client,
            name,
            encoder.bundle.manifest,
            index=index.upper(),
            nlist=nlist,
            code_hex=code_hex,
            embedding_dim=encoder.embedding_dim if embedding else None,
            consistency=consistency,
            columns=asked_for,
            partition_key=partition_key,
            phash=phash,
            tell=tell,
        )
        own = {column.name: column for column in collection.columns}
        folder = connection.journal_folder(collection.name, journal)
        asked = {
            f"the index {collection.index}": ctx.get_parameter_source("index") is ParameterSource.COMMANDLINE
            and collection.index != index.upper(),
            "no code_hex": code_hex and not collection.has_code_hex,
            "no embedding": embedding and collection.embedding_dim is None,
            f"{'a' if collection.has_phash else 'no'} phash": collection.has_phash != phash
            and ctx.get_parameter_source("phash") is ParameterSource.COMMANDLINE,
            **{
                f"the column {own[column.name]}" if column.name in own else f"no column {column}": column
                not in collection.columns
                for column in asked_for
            },
            f"the partition key {collection.partition_key or '(none)'}": partition_key is not None
            and partition_key != collection.partition_key,
        }
        if unlike := [fact for fact, other in asked.items() if other]:
            raise ConfigError(
                f"the collection {name} was made with {' and '.join(unlike)}, which cannot be changed; leave the "
                "option out, or ingest into another one (--collection-name)"
            )
        options = IngestOptions(
            batch_rows=batch_size,
            workers=WORKERS if workers is None else workers,
            timeout=decode_timeout,
            retry_refused=retry_refused,
            follow_links=reading.selection.follow_links,
            prune=prune,
            prune_at_most=prune_at_most,
            patience=Patience(patience),
        )
        tell_found(found)
        with finishing_when_interrupted() as stop, closing(Journal.open(folder, collection.note.born)) as opened:
            result = run(
                encoder,
                listing,
                collection,
                namespace,
                options,
                journal=opened,
                photos=data,
                part=split or "",
                report=report,
                stop=stop,
                tell=tell,
                progress=update,
            )
    facts = {"collection": collection.name, **asdict(result), "journal": str(folder)}
    if as_json:
        show_json(facts)
    else:
        show_record(facts)
    rest = "All others are in" + (", but for deleted ones" if result.deleted else "")
    refuse_too_many(result.refused, len(listing), max_errors, report, rest)
