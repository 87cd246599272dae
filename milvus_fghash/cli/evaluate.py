"""`milvus-fghash evaluate`: measure retrieval quality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from milvus_fghash.cli.options.common import encoder_options, json_option, max_errors_option
from milvus_fghash.cli.options.connection import Connection, milvus_options
from milvus_fghash.cli.options.paths import NEW_PATH, PHOTOS, READABLE_FOLDER
from milvus_fghash.cli.options.photos import PhotoOptions, notify_dataset, photo_options
from milvus_fghash.cli.terminal.output import show_json, show_table
from milvus_fghash.cli.terminal.progress import progress_bar
from milvus_fghash.errors import TooManyRejected

if TYPE_CHECKING:
    from milvus_fghash.datasets.read import Url
    from milvus_fghash.evaluation.record import Evaluation

SHOWN_K = (1, 10)
"""Values of k of the precision@k in the table; the record has more."""


@click.command()
@click.argument("bundle", type=READABLE_FOLDER)
@click.option("--data", type=PHOTOS, required=True, help="Dataset with the queries and the gallery.")
@photo_options()
@click.option("--query-split", default="test", help="Split of the queries.")
@click.option(
    "--gallery-split",
    multiple=True,
    show_default="train, and the queries' own split, each photo against all others",
    help="Split of a gallery, or several separated by commas; repeat it for several galleries.",
)
@click.option(
    "--filter",
    default="",
    show_default=False,
    help="With --collection-name: Milvus filter expression that selects the gallery rows.",
)
@encoder_options
@max_errors_option
@click.option("--out", type=NEW_PATH, help="Write the result to this JSON file.")
@click.option("--plots", type=NEW_PATH, help="Folder for plots (PNG).")
@milvus_options
@json_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    bundle: Path,
    data: Path | Url,
    reading: PhotoOptions,
    query_split: str,
    gallery_split: tuple[str, ...],
    filter: str,
    encoding: dict[str, Any],
    max_errors: int,
    out: Path | None,
    plots: Path | None,
    connection: Connection,
    as_json: bool,
) -> None:
    """Measure how well codes retrieve photos of the same class.

    A gallery is a split of the photos, or, with --collection-name, a collection in Milvus. Without splits, each photo
    is a query against all others. The result says how many photos of each gallery the model was trained on: figures of
    trained photos (A) say little about new photos (B) or new classes (C). If the bundle has learned codes, they are
    evaluated as a further gallery; if it has an embedding, its figures are shown beside those of the codes. Photos that
    cannot be read are counted and skipped; the exit code is 3 if more photos than --max-errors cannot be read.

    \b
    Example: milvus-fghash evaluate bundles/birds --data photos --out result.json --plots plots
             milvus-fghash evaluate bundles/birds --data photos --collection-name photos
    """
    in_milvus = connection.sources["collection_name"] == "flag"
    if in_milvus and ctx.get_parameter_source("gallery_split") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--gallery-split and --collection-name exclude each other")
    if filter and not in_milvus:
        raise click.UsageError("--filter needs --collection-name")
    if out and out.is_dir():
        raise click.UsageError(f"--out {out} is a folder; expected a file")
    if plots and plots.is_file():
        raise click.UsageError(f"--plots {plots} is a file; expected a folder")
    if plots:
        from milvus_fghash.evaluation.plots import check_matplotlib

        check_matplotlib()
    from milvus_fghash.encoding.encoder import Encoder
    from milvus_fghash.evaluation.evaluate import evaluate_bundle

    dataset = reading.read(data, out, plots)
    dataset.check_paths()
    encoder = Encoder.open(bundle, for_many=True, **encoding)
    notify_dataset(dataset)
    galleries = gallery_split or ("train", query_split)
    name = f"{reading.layout(data)} {(data.resolve() if isinstance(data, Path) else data).name}"
    with progress_bar("evaluating") as update:
        if in_milvus:
            with connection.catalog(bundle=encoder) as catalog:
                result = catalog.evaluate(dataset, query_split=query_split, filter=filter, name=name, progress=update)
        else:
            result = evaluate_bundle(
                encoder,
                dataset,
                dataset_name=name,
                gallery_split=galleries[0],
                query_split=query_split,
                further_galleries=galleries[1:],
                progress=update,
            )
    if as_json:  # before writing files, which may fail
        show_json(result.model_dump(mode="json"))
    else:
        show_table(_rows(result), "\n".join(_notes(result)))
    if out:
        result.write(out)
    if plots:
        from milvus_fghash.evaluation.plots import write_plots

        with progress_bar("drawing the plots"):
            write_plots(result, plots)
    one = result.encoded
    rejected = one.rejected_queries + (one.rejected_gallery if one.gallery_split != one.query_split else 0)
    if rejected > max_errors:
        raise TooManyRejected(
            f"{rejected} photos could not be read and were not evaluated, {max_errors} are allowed (--max-errors)"
        )


def _rows(result: Evaluation) -> list[dict[str, Any]]:
    """One row per gallery; without learned codes, the cells of their row are empty."""
    rows: list[dict[str, Any]] = [
        {
            "method": record.method,
            "bits": record.bits,
            "gallery": record.gallery,
            "photos of": record.gallery_split,
            "protocol": record.training_overlap.protocol if record.training_overlap else None,
            "queries": record.n_queries,
            "photos": record.n_gallery,
            "mAP": record.map_exact,
            "mAP sorted": record.map_sorted,
            "mAP of chance": record.map_chance,
            **{f"P@{k}": record.precision_at.get(k) for k in SHOWN_K},
            "reach": record.reach,
            "mAP of floats": record.floats.map if record.floats else None,
            "P@1 of floats": record.floats.precision_at_1 if record.floats else None,
        }
        for record in result.records.values()
    ]
    if result.learned is None:
        known = {"method": result.encoded.method, "bits": result.encoded.bits, "gallery": "learned"}
        rows.append(dict.fromkeys(rows[0]) | known)
    return rows


def _notes(result: Evaluation) -> list[str]:
    """Of each gallery, what it is to the model and where its codes come from; and why there are no learned codes."""
    notes = [
        f"{record.gallery} gallery of {record.gallery_split}: {record.protocol}; from {record.gallery_source}"
        for record in result.records.values()
    ]
    return [*notes, *([result.learned_absent] if result.learned_absent else [])]
