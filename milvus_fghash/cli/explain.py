"""`milvus-fghash explain`: a model and photos -> a page that shows what it learned."""

from __future__ import annotations

from pathlib import Path

import click

from milvus_fghash.cli.options import (
    NEW_PATH,
    READABLE,
    READABLE_FILE,
    READABLE_FOLDER,
    encoder_options,
    json_option,
    max_errors_option,
)
from milvus_fghash.cli.output import show_json, show_record
from milvus_fghash.cli.photo_options import PhotoOptions, notify_warnings, photo_options
from milvus_fghash.cli.progress import progress_bar
from milvus_fghash.errors import TooManyRejected


@click.command()
@click.argument("model", type=READABLE_FOLDER)
@click.option("--data", type=READABLE, required=True, help="Photos of the gallery, and of the queries.")
@photo_options()
@click.option("--query-split", default="test", help="Part of the photos that asks.")
@click.option("--gallery-split", default="train", help="Part of the photos that is searched.")
@click.option("--queries", type=click.IntRange(min=1), default=8, help="Photos that ask, drawn class by class.")
@click.option("--image", "images", type=READABLE_FILE, multiple=True,
              help="Ask with this photo instead; may be repeated.")  # fmt: skip
@click.option("--against", type=READABLE_FOLDER, help="A second bundle or checkpoint to compare with.")
@click.option("--bits-shown", metavar="LIST", help="Bits to show, such as 0,5,7.  [default: all]")
@click.option("--maps-shown", type=click.IntRange(min=1), default=12, help="Attention maps of each query, at most.")
@click.option("-k", type=click.IntRange(1, 100), default=10, help="Nearest photos shown of each query.")
@encoder_options
@click.option("--device", help="Where torch computes, for a checkpoint.  [default: cuda if there is one]")
@max_errors_option
@click.option("--out", type=NEW_PATH, default=Path("explained"), help="Folder of the page.")
@click.option("--overwrite", is_flag=True, help="Replace a page that is there.")
@json_option
def explain(
    model: Path,
    data: Path,
    reading: PhotoOptions,
    query_split: str,
    gallery_split: str,
    queries: int,
    images: tuple[Path, ...],
    against: Path | None,
    bits_shown: str | None,
    maps_shown: int,
    k: int,
    provider: str | None,
    threads: int,
    encode_timeout: float,
    device: str | None,
    max_errors: int,
    out: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Show what a model learned, as a page of pictures.

    MODEL is a bundle or a checkpoint. The page shows where it looks in some photos, which photos it finds for them,
    and which photos switch each bit on and off. A checkpoint shows more than a bundle: class-activation maps and erased
    regions. A bundle shows its attention if it was exported with --output attention.

    \b
    Example: milvus-fghash explain runs/birds --data photos --against bundles/other --out explained
    """
    bits = _numbers(bits_shown)
    from milvus_fghash.explain.explain import ExplainOptions, open_model
    from milvus_fghash.explain.explain import explain as run

    dataset = reading.read_files(data)
    paths = [model, *([against] if against else [])]
    models = [
        open_model(path, provider=provider, threads=threads, encode_timeout=encode_timeout, device=device)
        for path in paths
    ]
    wanted = ExplainOptions(query_split, gallery_split, queries, images, k, bits, maps_shown)
    notify_warnings(dataset)
    name = f"{reading.layout(data)} {data.resolve().name}"
    with progress_bar("encoding the gallery") as report:
        result = run(models, dataset, out, wanted, dataset_name=name, overwrite=overwrite, report=report)
    document = {
        "page": str(result.page),
        "queries": result.n_queries,
        "gallery": result.n_gallery,
        "bits": result.n_bits,
        "rejected": [{"path": one.path, "reason": one.reason} for one in result.rejected],
    }
    if as_json:
        show_json(document)
    else:
        show_record(document | {"rejected": len(result.rejected)})
    if len(result.rejected) > max_errors:
        raise TooManyRejected(
            f"{len(result.rejected)} photos could not be read and are listed at the end of the page, {max_errors} are "
            "allowed (--max-errors)"
        )


def _numbers(text: str | None) -> tuple[int, ...] | None:
    """0,5,7 -> (0, 5, 7), in that order, none twice."""
    if text is None:
        return None
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise click.UsageError(f"--bits-shown wants numbers such as 0,5,7, got {text!r}") from None
