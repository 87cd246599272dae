"""Where `ingest` writes: into Milvus, or into shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from milvus_fghash.cli.connection import NAMES
from milvus_fghash.cli.messages import tell
from milvus_fghash.cli.options import NEW_PATH, Command, all_of, refuse_too_many
from milvus_fghash.cli.output import show_json, show_record
from milvus_fghash.cli.photo_options import tell_found
from milvus_fghash.cli.progress import progress_bar
from milvus_fghash.cli.stopping import finishing_when_interrupted
from milvus_fghash.errors import ConfigError
from milvus_fghash.whole_file import write_whole

if TYPE_CHECKING:
    from milvus_fghash.data import Listing

OF_MILVUS = {
    *NAMES, "index", "nlist", "batch_size", "prune_at_most", "patience", "journal", "consistency", "drop_if_exists",
    "yes",
}  # fmt: skip
"""Parameters that mean nothing to shards."""
OF_RAY = {"ray_actors", "gpus_per_actor", "ray_address"}
OF_SHARDS = {"shards", "shard_rows", "engine", *OF_RAY}

sink_options: Callable[[Command], Command] = all_of(
    click.option("--sink", type=click.Choice(["milvus", "parquet"]), default="milvus",
                 help="parquet writes shards for bulk-import, and needs no Milvus."),
    click.option("--shards", type=NEW_PATH, help="Folder of the shards."),
    click.option("--shard-rows", type=click.IntRange(1, 10_000_000), default=100_000, help="Photos of a shard."),
    click.option("--engine", type=click.Choice(["local", "ray"]), default="local",
                 help="Where shards are made: here, or by actors on Ray, which must see the photos and the shards."),
    click.option("--ray-actors", type=click.IntRange(min=1),
                 help="Actors.  [default: one for each CPU but one, or as many as there are GPUs for]"),
    click.option("--gpus-per-actor", type=click.FloatRange(min=0), default=0.0, help="GPUs that an actor takes."),
    click.option("--ray-address", envvar="RAY_ADDRESS", show_envvar=True,
                 help="Ray cluster.  [default: Ray is started on this machine]"),
)  # fmt: skip


def check_sink(ctx: click.Context) -> None:
    """Refuse options that the sink would pass over.

    Raises:
        click.UsageError: names the first.
    """
    sink = ctx.params["sink"]
    others = OF_MILVUS if sink == "parquet" else OF_SHARDS
    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name in others:
            raise click.UsageError(f"{parameter.opts[0]} does not go with --sink {sink}")
        if given and parameter.name in OF_RAY and ctx.params["engine"] != "ray":
            raise click.UsageError(f"{parameter.opts[0]} does not go with --engine {ctx.params['engine']}")
    if sink == "parquet" and ctx.params["shards"] is None:
        raise click.UsageError("--sink parquet needs --shards FOLDER")


def into_shards(bundle: Path, found: Listing, listing: Listing, report: Path | None, asked: Mapping[str, Any]) -> None:
    """`ingest --sink parquet`; ``asked`` are all its options, by name, and ``listing`` is the part of ``found``."""
    from milvus_fghash.bulk.building import Engine, ShardOptions, build_shards, here
    from milvus_fghash.bulk.folder import ShardFolder
    from milvus_fghash.bulk.making import Decoding
    from milvus_fghash.serving.decoded import advice
    from milvus_fghash.serving.decoding import WORKERS
    from milvus_fghash.serving.encoder import Encoder
    from milvus_fghash.serving.ingest import write_report
    from milvus_fghash.serving.scalar_columns import asked_columns

    listing = listing.as_columns(asked_columns(asked["columns"], listing.cells))
    encoder = Encoder.open(
        bundle,
        # Where actors encode, this process only looks into the bundle.
        provider="cpu" if asked["engine"] == "ray" else asked["provider"],
        threads=asked["threads"],
        for_many=asked["engine"] != "ray",
        encode_timeout=asked["encode_timeout"],
    )
    if asked["embedding"] and encoder.embedding_dim is None:
        raise ConfigError(f"the bundle {bundle} gives no embedding; export it again with one")
    if report:
        write_whole(report, b"")
    tell_found(found)
    engine: Engine = here
    workers = WORKERS
    if asked["engine"] == "ray":
        from milvus_fghash.bulk.ray_engine import RayPool

        pool = RayPool(
            bundle=encoder.bundle.path,
            provider=asked["provider"],
            threads=asked["threads"] or 1,
            encode_timeout=asked["encode_timeout"],
            actors=asked["ray_actors"],
            gpus_per_actor=asked["gpus_per_actor"],
            address=asked["ray_address"],
        )
        engine, workers = pool.engine(), 1  # in each actor
    options = ShardOptions(
        shard_rows=asked["shard_rows"],
        code_hex=asked["code_hex"],
        embedding=asked["embedding"],
        phash=asked["phash"],
        partition_key=asked["partition_key"],
        decoding=Decoding(
            workers=workers if asked["workers"] is None else asked["workers"],
            timeout=asked["decode_timeout"],
            follow_links=asked["follow_links"],
        ),
        retry_refused=asked["retry_refused"],
        prune=asked["prune"],
    )
    folder = ShardFolder(asked["shards"])
    with finishing_when_interrupted() as stop, progress_bar("encoding") as update:
        try:
            result = build_shards(
                encoder,
                listing,
                folder,
                asked["namespace"],
                options,
                engine=engine,
                stop=stop,
                progress=update,
            )
        finally:  # an interrupted run tells what it did, too
            if report:
                write_report(report, ((one.path, one.reason, one.message) for one in folder.refused()))
    facts = {"folder": str(folder.path), **asdict(result)}
    if asked["as_json"]:
        show_json(facts)
    else:
        show_record(facts)
    for line in advice(result.reasons):
        tell(line)
    refuse_too_many(result.refused, len(listing), asked["max_errors"], report, "All others are in the shards")
