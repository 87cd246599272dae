"""`milvus-fghash ingest`: photos -> codes -> Milvus."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from milvus_fghash.cli.connection import Connection, milvus_options
from milvus_fghash.cli.options import (
    NEW_PATH,
    PHOTOS,
    READABLE_FOLDER,
    consistency_option,
    dataset_option,
    decoding_options,
    encoder_options,
    journal_option,
    json_option,
    keep_apart,
    max_errors_option,
    namespace_option,
    read_photos,
    split_option,
)
from milvus_fghash.cli.output import progress_bar, show_json, show_record, tell
from milvus_fghash.cli.stopping import finishing_when_interrupted
from milvus_fghash.errors import ConfigError, TooManyRefused
from milvus_fghash.whole_file import write_whole

if TYPE_CHECKING:
    from milvus_fghash.data import Url


@click.command()
@click.argument("bundle", type=READABLE_FOLDER)
@click.argument("data", type=PHOTOS)
@dataset_option
@split_option
@click.option("--index", type=click.Choice(["bin_flat", "bin_ivf_flat"]), default="bin_flat",
              help="Index of a new collection; bin_ivf_flat needs a server.")  # fmt: skip
@click.option("--nlist", type=click.IntRange(1, 65_536), default=128, help="Clusters of bin_ivf_flat.")
@namespace_option
@click.option("--code-hex", is_flag=True, help="Keep the code as text too; cheaper to fetch than the vector.")
@click.option("--embedding", is_flag=True, help="Keep the bundle's embedding too.")
@click.option("--batch-size", type=click.IntRange(1, 4096), default=128, help="Rows written together.")
@encoder_options
@decoding_options
@click.option("--report", type=NEW_PATH, help="File for one line of JSON for each refused photo.")
@max_errors_option
@click.option(
    "--retry-refused",
    is_flag=True,
    help="Try photos again that were refused, or whose rows were deleted, though they are the same.",
)
@click.option("--prune", is_flag=True, help="Delete the rows of photos that DATA no longer has.")
@click.option("--prune-at-most", type=click.FloatRange(0, 1), default=0.5,
              help="Part of the photos above which nothing is pruned, for a missing disk looks like that.")  # fmt: skip
@click.option("--patience", type=click.FloatRange(min=0), default=300.0,
              help="Seconds to wait for a Milvus that is gone or overloaded.")  # fmt: skip
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
    dataset: str | None,
    split: str | None,
    index: str,
    nlist: int,
    namespace: str,
    code_hex: bool,
    embedding: bool,
    batch_size: int,
    provider: str | None,
    threads: int,
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

    What Milvus acknowledged is written down in a journal: a second run reads only photos that are new or changed, an
    interrupted one goes on where it was, and Ctrl-C finishes what was begun. Photos that cannot be read are counted
    and reported, all others get in; the exit code is 3 when there are more of them than --max-errors.

    \b
    Example: milvus-fghash ingest bundles/birds photos --split train --report refused.jsonl
    """
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

    listing = read_photos(data, dataset)
    keep_apart(listing, data, report)
    listing = listing.split(split) if split else listing
    encoder = Encoder.open(bundle, provider=provider, threads=threads)
    if embedding and encoder.embedding_dim is None:
        raise ConfigError(
            f"{bundle} gives no embedding; export it again with --output embedding, or leave --embedding out"
        )
    if report:
        write_whole(report, b"")  # before a collection is made for a run that cannot report
    name, folder = connection.collection_name, journal or connection.journal_folder()
    with closing(connection.connect(may_create=True)) as client, progress_bar("ingesting") as update:
        if drop_if_exists and client.has_collection(name):
            drop_with_journal(client, name, folder)
        collection = HashCollection.open_or_create(
            client,
            name,
            encoder.bundle.manifest,
            index=index.upper(),
            nlist=nlist,
            code_hex=code_hex,
            embedding_dim=encoder.embedding_dim if embedding else None,
            consistency=consistency,
        )
        asked = {
            f"the index {collection.index}": ctx.get_parameter_source("index") is ParameterSource.COMMANDLINE
            and collection.index != index.upper(),
            "no code_hex": code_hex and not collection.has_code_hex,
            "no embedding": embedding and collection.embedding_dim is None,
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
            prune=prune,
            prune_at_most=prune_at_most,
            patience=Patience(patience),
        )
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
    facts = {"collection": name, **asdict(result), "journal": str(folder)}
    if as_json:
        show_json(facts)
    else:
        show_record(facts)
    if result.refused > max_errors:
        where = f"see {report}" if report else "--report FILE lists them"
        raise TooManyRefused(
            f"{result.refused} of {len(listing)} photos were refused, {max_errors} are allowed (--max-errors); "
            f"{where}. {'All others are in' if not result.deleted else 'All others are in, but for deleted ones'}"
        )
