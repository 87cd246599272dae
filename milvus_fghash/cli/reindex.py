"""`milvus-fghash reindex`: encode a catalog with a new model into a new collection."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.options.common import (
    check_rejected,
    decoding_options,
    encoder_options,
    journal_option,
    json_option,
    max_errors_option,
    namespace_option,
    report_option,
    retry_option,
    rows_per_write_option,
    split_option,
)
from milvus_fghash.cli.options.connection import Connection, milvus_options
from milvus_fghash.cli.options.paths import PHOTOS, READABLE_FOLDER
from milvus_fghash.cli.options.photos import PhotoOptions, notify_dataset, photo_options
from milvus_fghash.cli.terminal.interrupt import stop_on_interrupt
from milvus_fghash.cli.terminal.output import show_json, show_record, show_table
from milvus_fghash.cli.terminal.progress import progress_bar
from milvus_fghash.cli.verify import facts_of
from milvus_fghash.errors import Inconsistent

if TYPE_CHECKING:
    from milvus_fghash.datasets.read import Url
    from milvus_fghash.migration.model_comparison import ModelComparison
    from milvus_fghash.migration.reindex import Reindexed


@click.command()
@click.argument("bundle", type=READABLE_FOLDER)
@click.argument("data", type=PHOTOS)
@click.option(
    "--into", metavar="NAME", help="Name of the new collection.  [default: the old name with the fingerprint of BUNDLE]"
)
@photo_options()
@split_option
@namespace_option
@rows_per_write_option
@encoder_options
@decoding_options
@report_option
@max_errors_option
@retry_option
@click.option("--verify-sample", type=click.IntRange(0, 10_000), default=100,
              help="Number of photos to encode again and search for.")  # fmt: skip
@click.option("--compare-sample", type=click.IntRange(0, 50_000), default=5000,
              help="Number of labelled rows on which both models are evaluated.")  # fmt: skip
@click.option("--compare-split", default="", show_default=False,
              help="Split from which these rows are drawn, such as test.  [default: all]")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of both samples.")
@journal_option
@milvus_options
@json_option
def reindex(
    bundle: Path,
    data: Path | Url,
    into: str | None,
    reading: PhotoOptions,
    split: str | None,
    namespace: str,
    rows_per_write: int,
    encoding: dict[str, Any],
    decoding: dict[str, Any],
    report: Path | None,
    max_errors: int,
    retry: float,
    verify_sample: int,
    compare_sample: int,
    compare_split: str,
    seed: int,
    journal: Path | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Encode DATA with a new BUNDLE into a new collection.

    --collection-name is the old collection, or preferably its alias. It stays unchanged and searchable. The new
    collection has the same columns and index. After the photos in DATA are stored it is verified, and both models are
    evaluated on the same labelled rows. Searches through the alias change only with `promote`.

    An interrupted run resumes, and a second run encodes only new and changed photos. If the old collection has photos
    of several folders or namespaces, run reindex for each; the rows that are still missing are counted.

    A model scores higher on the photos that it was trained on: use --compare-split test to compare on others.

    \b
    Example: milvus-fghash reindex bundles/birds-2 photos --collection-name birds
    """
    from milvus_fghash.encoding.encoder import Encoder
    from milvus_fghash.ingest.api import IngestOptions
    from milvus_fghash.migration.reindex import Sample
    from milvus_fghash.milvus.retry import RetryPolicy

    found = reading.read(data, report)
    dataset = found.split(split) if split else found
    encoder = Encoder.open(bundle, for_many=True, **encoding)
    options = IngestOptions(
        rows_per_write=rows_per_write,
        **decoding,
        retry=RetryPolicy(retry),
    )
    notify_dataset(found)
    with (
        connection.catalog(journal=journal) as catalog,
        progress_bar("reindexing") as update,
        stop_on_interrupt() as stop,
    ):
        done = catalog.reindex(
            encoder,
            dataset,
            into=into,
            selection=reading.selection,
            namespace=namespace,
            options=options,
            sample=Sample(verify_sample, compare_sample, compare_split, seed),
            report=report,
            stop=stop,
            progress=update,
        )
    name = connection.collection_name
    alias = name if name != done.old else None
    _show(done, _next_step(done, alias), as_json)
    if not done.verification.is_consistent:
        raise Inconsistent(
            f"the collection {done.new} is inconsistent: run verify with --repair on it, then reindex again"
        )
    check_rejected(done.ingest.rejected, len(dataset), max_errors, report)


def _show(done: Reindexed, next_step: str, as_json: bool) -> None:
    facts = {
        "old": done.old,
        "new": done.new,
        "ingest": asdict(done.ingest),
        "verification": facts_of(done.verification),
        "consistent": done.verification.is_consistent,
        "missing": asdict(done.missing),
    }
    found = done.comparison
    if as_json:
        compared = {"comparison": None, "not_compared": found} if isinstance(found, str) else {
            "comparison": _facts(found), "not_compared": None}  # fmt: skip
        show_json({**facts, **compared, "next": next_step})
        return
    show_record(facts)
    if isinstance(found, str):
        click.echo(f"\nThe models were not compared: {found}")
    else:
        click.echo()
        show_table(_rows(done, found), _summary(found))
    click.echo(f"\nNext: {next_step}")


def _facts(found: ModelComparison) -> dict[str, Any]:
    overlap = found.training_overlap
    return {**asdict(found), "training_overlap": overlap.model_dump() if overlap else None}


def _rows(done: Reindexed, found: ModelComparison) -> list[dict[str, Any]]:
    return [
        {
            "collection": name,
            "fingerprint": one.fingerprint[:12],
            "bits": one.bits,
            "mAP": one.map_exact,
            **{f"P@{k}": value for k, value in one.precision_at.items()},
        }
        for name, one in ((done.old, found.old), (done.new, found.new))
    ]


def _summary(found: ModelComparison) -> str:
    from milvus_fghash.evaluation.training_overlap import UNKNOWN

    return (
        f"{found.photos:,} labelled photos of {found.classes:,} classes, each a query against the others. mAP of the "
        f"new model minus the old one: {found.difference:+.4f} (95 % interval: +-{found.uncertainty:.4f}). To the new "
        f"model, these photos are {found.training_overlap.summary if found.training_overlap else UNKNOWN}"
    )


def _next_step(done: Reindexed, alias: str | None) -> str:
    if not done.verification.is_consistent:
        return f"milvus-fghash verify ... --collection-name {done.new} --repair, then reindex again"
    if done.missing.count:
        return f"{done.missing.count:,} rows of {done.old} are not in {done.new}: reindex their photos as well"
    return f"milvus-fghash promote {alias or 'ALIAS'} {done.new}"
