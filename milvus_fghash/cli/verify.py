"""`milvus-fghash verify`: photos, journal and collection beside each other."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.connection import Connection, milvus_options
from milvus_fghash.cli.messages import notify
from milvus_fghash.cli.options import (
    PHOTOS,
    READABLE_FOLDER,
    encoder_options,
    journal_option,
    json_option,
    namespace_option,
    split_option,
)
from milvus_fghash.cli.output import show_json, show_record
from milvus_fghash.cli.photo_options import PhotoOptions, notify_found, photo_options
from milvus_fghash.cli.progress import progress_bar
from milvus_fghash.cli.stopping import finishing_when_interrupted
from milvus_fghash.errors import Inconsistent

if TYPE_CHECKING:
    from milvus_fghash.datasets.read import Url
    from milvus_fghash.ingest.verify import Verification


@click.command()
@click.argument("bundle", type=READABLE_FOLDER)
@click.argument("data", type=PHOTOS)
@photo_options()
@split_option
@namespace_option
@click.option(
    "--sample", type=click.IntRange(0, 10_000), default=100, help="Photos that are encoded again and searched for."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Draws the sample.  [default: another each time]")
@click.option("--repair", is_flag=True, help="Write what is missing or wrong again; take in what is new.")
@click.option("--delete-extra", is_flag=True, help="With --repair: delete rows that no photo and no journal knows.")
@encoder_options
@journal_option
@milvus_options
@json_option
def verify(
    bundle: Path,
    data: Path | Url,
    reading: PhotoOptions,
    split: str | None,
    namespace: str,
    sample: int,
    seed: int | None,
    repair: bool,
    delete_extra: bool,
    provider: str | None,
    threads: int,
    encode_timeout: float,
    journal: Path | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Compare the photos in DATA with what Milvus holds.

    The journal says what Milvus acknowledged. Rows can be missing, extra, there twice, or made of another content; and
    of a sample of photos the code can be another, or the row not be found. The exit code is 1 when anything of that is
    so. Photos that are new, rejected or vanished are counted only: ingest and its --prune see to them.

    \b
    Example: milvus-fghash verify bundles/birds photos --split train
    """
    if delete_extra and not repair:
        raise click.UsageError("--delete-extra goes with --repair")
    found = reading.read(data)
    dataset = found.split(split) if split else found
    seed = random.randrange(2**32) if seed is None else seed
    repaired: dict[str, int] | None = None
    with (
        connection.catalog(
            bundle=bundle, journal=journal, provider=provider, threads=threads, encode_timeout=encode_timeout
        ) as catalog,
        progress_bar("verifying") as update,
    ):
        notify_found(found)
        asked: dict[str, Any] = {"selection": reading.selection, "namespace": namespace, "sample": sample, "seed": seed}
        if repair:
            with finishing_when_interrupted() as stop:
                done = catalog.repair(dataset, delete_extra=delete_extra, stop=stop, progress=update, **asked)
            repaired = {name: one.count for name, one in done.before.findings.items() if one.count}
            report = done.after
        else:
            report = catalog.verify(dataset, **asked)
        name, folder = catalog.collection.name, catalog.journal_folder
    facts = {
        **facts_of(report),
        **({"repaired": repaired} if repair else {}),
        "seed": seed,
        "whole": report.is_consistent,
    }
    if as_json:
        show_json(facts)
    else:
        show_record(facts)
    if not report.is_consistent:
        wrong = ", ".join(
            f"{one.count:,} {name.replace('_', ' ')}" for name, one in report.findings.items() if one.count
        )
        raise Inconsistent(f"the collection {name} is not whole: {wrong}; {_next_step(report, repair, folder)}")
    if report.unacknowledged and not report.acknowledged:
        notify(f"There is no journal of these rows in {folder}: only the sample was compared with them.")


def _next_step(found: Verification, repaired: bool, folder: Path) -> str:
    if found.of_others == sum(one.count for one in found.findings.values()):
        return "all of that is of other photos: verify those, with --repair"
    if not repaired:
        return "--repair writes what is wrong again"
    if found.miscoded.count:
        return f"a sample tells of all: delete {folder}, and ingest writes every row again"
    if found.extra.count:
        return "--delete-extra deletes rows that no photo and no journal knows"
    return "run it again, and see whether something else writes into the collection"


def facts_of(found: Verification) -> dict[str, Any]:
    """Numbers, and examples where something is wrong."""
    counts = {name: value for name, value in vars(found).items() if name not in found.findings}
    wrong = {
        name: {
            "count": one.count,
            "examples": list(one.examples),
            **({"own_ids": list(one.own_ids)} if any(one.own_ids) else {}),
        }
        if one.count
        else 0
        for name, one in found.findings.items()
    }
    return {**counts, **wrong}
