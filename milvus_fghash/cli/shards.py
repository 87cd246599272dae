"""`milvus-fghash shards`: photos -> Parquet shards -> Milvus bulk import."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from milvus_fghash.cli.options.common import (
    check_rejected,
    consistency_option,
    decoding_options,
    encoder_options,
    index_options,
    json_option,
    max_errors_option,
    namespace_option,
    report_option,
    retry_option,
    row_options,
    split_option,
)
from milvus_fghash.cli.options.connection import Connection, milvus_options
from milvus_fghash.cli.options.paths import NEW_PATH, PHOTOS, READABLE_FOLDER
from milvus_fghash.cli.options.photos import PhotoOptions, notify_dataset, photo_options
from milvus_fghash.cli.terminal.interrupt import stop_on_interrupt
from milvus_fghash.cli.terminal.messages import notify
from milvus_fghash.cli.terminal.output import show
from milvus_fghash.cli.terminal.progress import progress_bar

if TYPE_CHECKING:
    from milvus_fghash.datasets.read import Url
    from milvus_fghash.milvus.collection import Consistency
    from milvus_fghash.milvus.schema import IndexType


def _without_ray(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Reject a Ray option that would have no effect; an environment variable may be set for other programs."""
    given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    if given and ctx.params["engine"] != "ray":
        raise click.UsageError(f"{parameter.opts[0]} needs --engine ray")
    return value


@click.group()
def shards() -> None:
    """Build and import shards (for very large catalogs)."""


@shards.command()
@click.argument("bundle", type=READABLE_FOLDER)
@click.argument("data", type=PHOTOS)
@click.option("--out", type=NEW_PATH, required=True, help="Folder for the shards.")
@photo_options()
@split_option
@click.option("--shard-rows", type=click.IntRange(1, 10_000_000), default=100_000, help="Photos per shard.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", is_eager=True,
              help="Build the shards in this process, or on Ray, whose workers need the same paths.")  # fmt: skip
@click.option("--ray-actors", type=click.IntRange(min=1), callback=_without_ray,
              help="Number of Ray actors.  [default: one per GPU share, or one per CPU except one]")  # fmt: skip
@click.option("--gpus-per-actor", type=click.FloatRange(min=0), default=0.0, callback=_without_ray,
              help="GPUs per Ray actor.")  # fmt: skip
@click.option("--ray-address", envvar="RAY_ADDRESS", show_envvar=True, callback=_without_ray,
              help="Address of the Ray cluster.  [default: start Ray on this machine]")  # fmt: skip
@namespace_option
@row_options
@encoder_options
@decoding_options
@report_option
@max_errors_option
@click.option("--retry-rejected", is_flag=True, help="Rebuild shards with rejected photos.")
@click.option("--prune", is_flag=True, help="Delete shards that no longer match DATA.")
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
    encoding: dict[str, Any],
    decoding: dict[str, Any],
    report: Path | None,
    max_errors: int,
    retry_rejected: bool,
    prune: bool,
    as_json: bool,
) -> None:
    """Encode the photos in DATA into a folder of shards.

    A shard is a Parquet file of rows that `shards import` sends to Milvus. The same photos and BUNDLE give the same
    shards, and a second run builds only those that are missing or whose photos changed. No Milvus is needed. Photos
    that cannot be read are counted and reported; all others are encoded. The exit code is 3 if more photos than
    --max-errors are rejected.

    \b
    Example: milvus-fghash shards build bundles/birds photos --out shards --report rejected.jsonl
    """
    from milvus_fghash.bulk_import.api import RayOptions, ShardOptions, build_shards

    found = reading.read(data, report, out)
    dataset = found.split(split) if split else found
    options = ShardOptions(
        **decoding,
        shard_rows=shard_rows,
        code_hex=code_hex,
        embedding=embedding,
        phash=phash is not False,
        columns=columns,
        partition_key=partition_key,
        retry_rejected=retry_rejected,
        prune=prune,
    )
    notify_dataset(found)
    with stop_on_interrupt() as stop, progress_bar("encoding") as update:
        result = build_shards(
            bundle,
            dataset,
            out=out,
            selection=reading.selection,
            namespace=namespace,
            options=options,
            ray=RayOptions(ray_actors, gpus_per_actor, ray_address) if engine == "ray" else None,
            **encoding,
            report=report,
            stop=stop,
            notify=notify,
            progress=update,
        )
    show({"folder": str(out), **asdict(result)}, as_json)
    check_rejected(result.rejected, len(dataset), max_errors, report, "All other photos are in the shards")


@shards.command("import")
@click.argument("folder", metavar="SHARDS", type=READABLE_FOLDER)
@index_options
@click.option("--bucket", metavar="URL", help="Upload the shards to this bucket of Milvus first, such as "
              "s3://milvus-bucket/shards.  [default: Milvus reads the shards at their path]")  # fmt: skip
@click.option("--max-jobs", "at_once", type=click.IntRange(1, 1024), default=8, help="Concurrent import jobs.")
@click.option("--stall-timeout", "deadline", type=click.FloatRange(min=0), default=3600.0,
              help="Seconds without progress after which the command fails.")  # fmt: skip
@click.option("--sample", type=click.IntRange(min=0), default=100, help="Number of rows to read back and compare.")
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
    """Import SHARDS with the bulk import of a Milvus server.

    SHARDS is a folder that `shards build` wrote. Checksums are verified before the import, and row counts after it.
    Bulk import does not replace rows, so a shard is imported only if none of its ids is in the collection. An
    interrupted or failed import resumes when the same command is run again.

    \b
    Example: milvus-fghash shards import shards --uri http://localhost:19530 --bucket s3://milvus-bucket/shards
    """
    from milvus_fghash.bulk_import.api import ImportOptions, import_shards
    from milvus_fghash.milvus.retry import RetryPolicy

    with stop_on_interrupt() as stop, progress_bar("importing") as update:
        result = import_shards(
            folder,
            connection.config(),
            collection=connection.collection_name,
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
    show(asdict(result), as_json)
