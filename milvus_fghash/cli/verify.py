"""`milvus-fghash verify`: photos, journal and collection beside each other."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.connection import Connection, milvus_options
from milvus_fghash.cli.options import (
    READABLE,
    READABLE_FOLDER,
    dataset_option,
    encoder_options,
    journal_option,
    json_option,
    namespace_option,
    read_photos,
    source_of,
    split_option,
)
from milvus_fghash.cli.output import progress_bar, show_json, show_record
from milvus_fghash.errors import NotWhole

if TYPE_CHECKING:
    from milvus_fghash.serving.verify import Verification


@click.command()
@click.argument("bundle", type=READABLE_FOLDER)
@click.argument("data", type=READABLE)
@dataset_option
@split_option
@namespace_option
@click.option(
    "--sample", type=click.IntRange(0, 10_000), default=100, help="Photos that are encoded again and searched for."
)
@click.option("--mend", is_flag=True, help="Write what is missing or wrong again; take in what is new.")
@click.option("--delete-extra", is_flag=True, help="With --mend: delete rows that no photo and no journal knows.")
@encoder_options
@journal_option
@milvus_options
@json_option
def verify(
    bundle: Path,
    data: Path,
    dataset: str | None,
    split: str | None,
    namespace: str,
    sample: int,
    mend: bool,
    delete_extra: bool,
    provider: str | None,
    threads: int,
    journal: Path | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Compare the photos in DATA with what Milvus holds.

    The journal says what Milvus acknowledged. Rows can be missing, extra, there twice, or made of another content; and
    of a sample of photos the code can be another, or the row not be found. The exit code is 1 when anything of that is
    so. Photos that are new, refused or vanished are counted only: ingest and its --prune see to them.

    \b
    Example: milvus-fghash verify bundles/birds photos --split train
    """
    if delete_extra and not mend:
        raise click.UsageError("--delete-extra goes with --mend")
    from milvus_fghash.serving.changes import Changes
    from milvus_fghash.serving.collection import HashCollection
    from milvus_fghash.serving.encoder import Encoder
    from milvus_fghash.serving.ingest import ingest
    from milvus_fghash.serving.journal import Journal
    from milvus_fghash.serving.verify import mend as make_whole
    from milvus_fghash.serving.verify import verify as run

    listing = read_photos(data, dataset)
    listing = listing.split(split) if split else listing
    encoder = Encoder.open(bundle, provider=provider, threads=threads)
    folder, source = journal or connection.journal_folder(), source_of(data, split)
    with closing(connection.connect()) as client, progress_bar("verifying") as update:
        collection = HashCollection.open(client, connection.collection_name, encoder.bundle.manifest)

        def look() -> Verification:
            with closing(Journal.open(folder, collection.note.born)) as opened:
                found = run(encoder, listing, collection, Changes(listing, namespace, opened, source), sample)
                if mend and not found.is_whole:
                    make_whole(collection, opened, found, delete_extra=delete_extra)
                return found

        found = look()
        if mend:
            with closing(Journal.open(folder, collection.note.born)) as opened:
                ingest(encoder, listing, collection, namespace, journal=opened, source=source, progress=update)
            mended, found = found, look()
            facts = {**_facts(found), "mended": {name: one.count for name, one in mended.findings.items() if one.count}}
        else:
            facts = _facts(found)
    facts["whole"] = found.is_whole
    if as_json:
        show_json(facts)
    else:
        show_record(facts)
    if not found.is_whole:
        wrong = ", ".join(
            f"{one.count:,} {name.replace('_', ' ')}" for name, one in found.findings.items() if one.count
        )
        step = "say --delete-extra if no other journal knows those" if mend else "--mend writes what is wrong again"
        raise NotWhole(f"the collection {collection.name} is not whole: {wrong}; {step}")


def _facts(found: Verification) -> dict[str, Any]:
    """Numbers, and examples where something is wrong."""
    counts = {name: value for name, value in vars(found).items() if name not in found.findings}
    wrong = {
        name: {"count": one.count, "examples": list(one.examples)} if one.count else 0
        for name, one in found.findings.items()
    }
    return {**counts, **wrong}
