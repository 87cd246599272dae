"""`milvus-fghash verify`: compare photos, journal and collection."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.options.common import (
    encoder_options,
    journal_option,
    json_option,
    namespace_option,
    split_option,
)
from milvus_fghash.cli.options.connection import Connection, milvus_options
from milvus_fghash.cli.options.paths import PHOTOS, READABLE_FOLDER
from milvus_fghash.cli.options.photos import PhotoOptions, notify_dataset, photo_options
from milvus_fghash.cli.terminal.interrupt import stop_on_interrupt
from milvus_fghash.cli.terminal.messages import notify
from milvus_fghash.cli.terminal.output import show
from milvus_fghash.cli.terminal.progress import progress_bar
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
@click.option("--sample", type=click.IntRange(0, 10_000), default=100,
              help="Number of photos to encode again and search for.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of the sample.  [default: random]")
@click.option("--repair", is_flag=True, help="Rewrite inconsistent rows, and ingest new and changed photos.")
@click.option("--delete-extra", is_flag=True,
              help="With --repair: delete rows that belong to no photo and are not in the journal.")  # fmt: skip
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
    encoding: dict[str, Any],
    journal: Path | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Compare the photos in DATA with the collection in Milvus.

    Reports rows that are missing, extra or duplicated, or whose content differs from that in the journal; and, for a
    sample of photos, rows whose code differs or that a search does not find. The exit code is 1 if there are any. New,
    changed, rejected and vanished photos are only counted: `ingest` handles them (vanished ones with --prune).

    \b
    Example: milvus-fghash verify bundles/birds photos --split train
    """
    if delete_extra and not repair:
        raise click.UsageError("--delete-extra needs --repair")
    found = reading.read(data)
    dataset = found.split(split) if split else found
    seed = random.randrange(2**32) if seed is None else seed
    repaired: dict[str, int] | None = None
    with (
        connection.catalog(bundle=bundle, journal=journal, **encoding) as catalog,
        progress_bar("verifying") as update,
    ):
        notify_dataset(found)
        common: dict[str, Any] = {
            "selection": reading.selection,
            "namespace": namespace,
            "sample": sample,
            "seed": seed,
        }
        if repair:
            with stop_on_interrupt() as stop:
                done = catalog.repair(dataset, delete_extra=delete_extra, stop=stop, progress=update, **common)
            repaired = {name: one.count for name, one in done.before.findings.items() if one.count}
            report = done.after
        else:
            report = catalog.verify(dataset, **common)
        name, folder = catalog.collection.name, catalog.journal_folder
    facts = {
        **facts_of(report),
        **({"repaired": repaired} if repair else {}),
        "seed": seed,
        "consistent": report.is_consistent,
    }
    show(facts, as_json)
    if not report.is_consistent:
        wrong = ", ".join(
            f"{one.count:,} {name.replace('_', ' ')}" for name, one in report.findings.items() if one.count
        )
        next_step = _next_step(report, repair, folder)
        raise Inconsistent(f"the collection {name} is inconsistent: {wrong}; {next_step}")
    if report.unacknowledged and not report.acknowledged:
        notify(f"There is no journal of these rows in {folder}: only the sample was compared with them.")


def _next_step(found: Verification, repaired: bool, folder: Path) -> str:
    if found.in_other_datasets == sum(one.count for one in found.findings.values()):
        return "all of these rows belong to photos that are not in DATA: verify those photos, with --repair"
    if not repaired:
        return "--repair rewrites the inconsistent rows"
    if found.miscoded.count:
        return f"the codes of a sample differ, so all may: delete {folder} and ingest again to rewrite every row"
    if found.extra.count:
        return "--delete-extra deletes rows that belong to no photo and are not in the journal"
    return "run it again; if it fails again, something else writes to the collection"


def facts_of(found: Verification) -> dict[str, Any]:
    """The counts, with examples of each inconsistency."""
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
