"""`milvus-fghash shards`: photos -> shards -> Milvus, for very large catalogs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from milvus_fghash.cli.connection import Connection, milvus_options
from milvus_fghash.cli.messages import notify
from milvus_fghash.cli.options import (
    NEW_PATH,
    PHOTOS,
    READABLE_FOLDER,
    consistency_option,
    decoding_options,
    encoder_options,
    index_options,
    json_option,
    max_errors_option,
    namespace_option,
    reject_too_many,
    report_option,
    retry_option,
    row_options,
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


def _without_ray(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Reject an option of Ray that would be passed over; its environment variable may stand there for others."""
    given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    if given and ctx.params["engine"] != "ray":
        raise click.UsageError(f"{parameter.opts[0]} needs --engine ray")
    return value


@click.group()
def shards() -> None:
    """Build shards of a very large catalog, and import them."""


@shards.command()
@click.argument("bundle", type=READABLE_FOLDER)
@click.argument("data", type=PHOTOS)
@click.option("--out", type=NEW_PATH, required=True, help="Folder of the shards.")
@photo_options()
@split_option
@click.option("--shard-rows", type=click.IntRange(1, 10_000_000), default=100_000, help="Photos of a shard.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", is_eager=True,
              help="Where shards are made: here, or by actors on Ray, which must see photos and shards.")  # fmt: skip
@click.option("--ray-actors", type=click.IntRange(min=1), callback=_without_ray,
              help="Actors.  [default: one for each CPU but one, or as many as there are GPUs for]")  # fmt: skip
@click.option("--gpus-per-actor", type=click.FloatRange(min=0), default=0.0, callback=_without_ray,
              help="GPUs that an actor takes.")  # fmt: skip
@click.option("--ray-address", envvar="RAY_ADDRESS", show_envvar=True, callback=_without_ray,
              help="Ray cluster.  [default: Ray is started on this machine]")  # fmt: skip
@namespace_option
@row_options
@encoder_options
@decoding_options
@report_option
@max_errors_option
@click.option("--retry-rejected", is_flag=True, help="Make shards again that lack photos which were rejected.")
@click.option("--prune", is_flag=True, help="Delete shards of photos that DATA no longer has, or not as they were.")
@json_option
def build(
    bundle: Path,
    data: Path | Url,
    out: Path,
    reading: PhotoOptions,
    split: str | None,
    shard_rows: int,
    engine: str,
    ray_actors: int | None,
    gpus_per_actor: float,
    ray_address: str | None,
    namespace: str,
    code_hex: bool,
    embedding: bool,
    phash: bool | None,
    columns: tuple[str, ...],
    partition_key: str | None,
    provider: str | None,
    threads: int,
    encode_timeout: float,
    workers: int | None,
    decode_timeout: float,
    report: Path | None,
    max_errors: int,
    retry_rejected: bool,
    prune: bool,
    as_json: bool,
) -> None:
    """Encode the photos in DATA into a folder of shards.

    A shard is a Parquet file of ready rows, which `shards import` sends to Milvus. The same photos and BUNDLE make the
    same shards, and a second run makes those that are missing or whose photos changed. No Milvus is needed. Photos that
    cannot be read are counted and reported, all others get in; the exit code is 3 when there are more of them than
    --max-errors.

    \b
    Example: milvus-fghash shards build bundles/birds photos --out shards --report rejected.jsonl
    """
    from milvus_fghash.bulk_import.api import RayOptions, ShardOptions, build_shards

    found = reading.read(data, report, out)
    dataset = found.split(split) if split else found
    options = ShardOptions(
        workers=workers,
        decode_timeout=decode_timeout,
        shard_rows=shard_rows,
        code_hex=code_hex,
        embedding=embedding,
        phash=phash is not False,
        columns=columns,
        partition_key=partition_key,
        retry_rejected=retry_rejected,
        prune=prune,
    )
    notify_found(found)
    with finishing_when_interrupted() as stop, progress_bar("encoding") as update:
        result = build_shards(
            bundle,
            dataset,
            out=out,
            selection=reading.selection,
            namespace=namespace,
            options=options,
            ray=RayOptions(ray_actors, gpus_per_actor, ray_address) if engine == "ray" else None,
            provider=provider,
            threads=threads,
            encode_timeout=encode_timeout,
            report=report,
            stop=stop,
            notify=notify,
            progress=update,
        )
    _show({"folder": str(out), **asdict(result)}, as_json)
    reject_too_many(result.rejected, len(dataset), max_errors, report, "All others are in the shards")


@shards.command("import")
@click.argument("folder", metavar="SHARDS", type=READABLE_FOLDER)
@index_options
@click.option("--bucket", metavar="URL", help="Copy the shards there first: Milvus' own bucket, such as "
              "s3://milvus-bucket/shards.  [default: Milvus reads them where they lie]")  # fmt: skip
@click.option("--at-once", type=click.IntRange(1, 1024), default=8, help="Import jobs under way at the same time.")
@click.option("--deadline", type=click.FloatRange(min=0), default=3600.0,
              help="Seconds without progress after which to stop waiting.")  # fmt: skip
@click.option("--sample", type=click.IntRange(min=0), default=100, help="Rows to read back and compare.")
@retry_option
@consistency_option(default="Bounded")
@milvus_options
@json_option
def import_(
    folder: Path,
    index: IndexType | None,
    nlist: int,
    bucket: str | None,
    at_once: int,
    deadline: float,
    sample: int,
    retry: float,
    consistency: Consistency,
    connection: Connection,
    as_json: bool,
) -> None:
    """Import SHARDS into Milvus by its bulk import.

    SHARDS is what `shards build` made. Checksums are looked at first, and every row after it. Milvus does not replace
    rows: a shard is sent only where none of its ids is in the collection. What was killed or failed goes on with the
    same command.

    \b
    Example: milvus-fghash shards import shards --uri http://localhost:19530 --bucket s3://milvus-bucket/shards
    """
    from milvus_fghash.bulk_import.api import ImportOptions, import_shards
    from milvus_fghash.milvus.retry import RetryPolicy

    with finishing_when_interrupted() as stop, progress_bar("importing") as update:
        result = import_shards(
            folder,
            connection.target(),
            connection.collection_name,
            bucket=bucket,
            index=index,
            nlist=nlist,
            consistency=consistency,
            options=ImportOptions(at_once, deadline, sample, RetryPolicy(retry)),
            stop=stop,
            notify=notify,
            stage=update.stage,
            progress=update,
        )
    _show(asdict(result), as_json)


def _show(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        show_json(facts)
    else:
        show_record(facts)
