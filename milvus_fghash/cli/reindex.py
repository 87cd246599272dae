"""`milvus-fghash reindex`: a catalog under a new model, beside the old one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.connection import Connection, milvus_options
from milvus_fghash.cli.options import (
    PHOTOS,
    READABLE_FOLDER,
    decoding_options,
    encoder_options,
    journal_option,
    json_option,
    max_errors_option,
    namespace_option,
    reject_too_many,
    report_option,
    retry_option,
    rows_per_write_option,
    split_option,
)
from milvus_fghash.cli.output import show_json, show_record, show_table
from milvus_fghash.cli.photo_options import PhotoOptions, notify_found, photo_options
from milvus_fghash.cli.progress import progress_bar
from milvus_fghash.cli.stopping import finishing_when_interrupted
from milvus_fghash.cli.verify import facts_of
from milvus_fghash.errors import Inconsistent

if TYPE_CHECKING:
    from milvus_fghash.datasets.read import Url
    from milvus_fghash.migration.model_comparison import ModelComparison
    from milvus_fghash.migration.reindex import Reindexed


@click.command()
@click.argument("bundle", type=READABLE_FOLDER)
@click.argument("data", type=PHOTOS)
@click.option("--into", metavar="NAME", help="The new collection.  [default: the old one's name and the fingerprint]")
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
              help="Photos that are encoded again and searched for.")  # fmt: skip
@click.option("--compare-sample", type=click.IntRange(0, 50_000), default=5000,
              help="Labelled rows on which both models are measured.")  # fmt: skip
@click.option("--compare-split", default="", show_default=False,
              help="Draw them from this split only, such as test.  [default: from all]")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Draws both samples.")
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
    provider: str | None,
    threads: int,
    encode_timeout: float,
    workers: int | None,
    decode_timeout: float,
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
    """Fill a new collection by a new BUNDLE, beside the old one.

    --collection-name is the old one, or better its alias; it is searched meanwhile, and stays as it is. The new one
    is of the same kind. When the photos in DATA are in, it is verified, and both are measured on the same labelled
    rows. Nothing changes for searches before `promote`.

    It can be killed and run again like ingest: only what is new or changed since is encoded. Where the old collection
    has photos of several folders or namespaces, run it for each. Rows that are missing still are counted.

    Codes find the photos well that their model was trained on: --compare-split test, where there is one, compares on
    others.

    \b
    Example: milvus-fghash reindex bundles/birds-2 photos --collection-name birds
    """
    from milvus_fghash.encoding.encoder import Encoder
    from milvus_fghash.ingest.api import IngestOptions
    from milvus_fghash.migration.reindex import Sample
    from milvus_fghash.milvus.retry import RetryPolicy

    found = reading.read(data, report)
    dataset = found.split(split) if split else found
    encoder = Encoder.open(bundle, provider=provider, threads=threads, for_many=True, encode_timeout=encode_timeout)
    options = IngestOptions(
        rows_per_write=rows_per_write,
        workers=workers,
        decode_timeout=decode_timeout,
        retry=RetryPolicy(retry),
    )
    notify_found(found)
    with (
        connection.catalog(journal=journal) as catalog,
        progress_bar("reindexing") as update,
        finishing_when_interrupted() as stop,
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
        raise Inconsistent(f"the collection {done.new} is not whole: verify it with --repair, and reindex again")
    reject_too_many(done.ingest.rejected, len(dataset), max_errors, report)


def _show(done: Reindexed, next_step: str, as_json: bool) -> None:
    facts = {
        "old": done.old,
        "new": done.new,
        "ingest": asdict(done.ingest),
        "verification": facts_of(done.verification),
        "whole": done.verification.is_consistent,
        "missing": asdict(done.missing),
    }
    found = done.comparison
    if as_json:
        compared = {"comparison": None, "not_compared": found} if isinstance(found, str) else {
            "comparison": asdict(found), "not_compared": None}  # fmt: skip
        show_json({**facts, **compared, "next": next_step})
        return
    show_record(facts)
    if isinstance(found, str):
        click.echo(f"\nThe models could not be compared: {found}")
    else:
        click.echo()
        show_table(_rows(done, found), _said(found))
    click.echo(f"\nNext: {next_step}")


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


def _said(found: ModelComparison) -> str:
    return (
        f"{found.photos:,} labelled photos of {found.classes:,} classes, each asks for the others: the new model's mAP "
        f"less the old one's is {found.difference:+.4f} (95 %: +-{found.uncertainty:.4f})"
    )


def _next_step(done: Reindexed, alias: str | None) -> str:
    if not done.verification.is_consistent:
        return f"milvus-fghash verify ... --collection-name {done.new} --repair, and this again"
    if done.missing.count:
        return f"{done.missing.count:,} rows of {done.old} are not in {done.new}: reindex their photos too"
    return f"milvus-fghash promote {alias or 'ALIAS'} {done.new}"
