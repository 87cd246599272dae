"""`milvus-fghash explain`: an HTML page about what a model learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from milvus_fghash.cli.options.common import encoder_options, json_option, max_errors_option
from milvus_fghash.cli.options.paths import NEW_PATH, READABLE, READABLE_FILE, READABLE_FOLDER
from milvus_fghash.cli.options.photos import PhotoOptions, notify_warnings, photo_options
from milvus_fghash.cli.terminal.output import show
from milvus_fghash.cli.terminal.progress import progress_bar
from milvus_fghash.errors import TooManyRejected


@click.command()
@click.argument("model", type=READABLE_FOLDER)
@click.option("--data", type=READABLE, required=True, help="Dataset with the queries and the gallery.")
@photo_options()
@click.option("--query-split", default="test", help="Split of the queries.")
@click.option("--gallery-split", default="train", help="Split of the gallery.")
@click.option("--queries", type=click.IntRange(min=1), default=8, help="Number of query photos, drawn class by class.")
@click.option("--image", "images", type=READABLE_FILE, multiple=True,
              help="Use this photo as the query instead. May be repeated.")  # fmt: skip
@click.option("--against", type=READABLE_FOLDER, help="Bundle or checkpoint to compare with.")
@click.option("--bits-shown", metavar="LIST", help="Indices of the bits to show, such as 0,5,7.  [default: all]")
@click.option("--max-maps", type=click.IntRange(min=1), default=12, help="Largest number of attention maps per query.")
@click.option("-k", type=click.IntRange(1, 100), default=10, help="Number of hits shown per query.")
@encoder_options
@click.option("--device", help="Torch device, for a checkpoint.  [default: cuda if available]")
@max_errors_option
@click.option("--out", type=NEW_PATH, default=Path("explained"), help="Folder for the page.")
@click.option("--overwrite", is_flag=True, help="Replace an existing page.")
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
    max_maps: int,
    k: int,
    encoding: dict[str, Any],
    device: str | None,
    max_errors: int,
    out: Path,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Show what a model learned, as an HTML page.

    MODEL is a bundle or a checkpoint. For some query photos the page shows the image regions that determine the code
    and the nearest photos; for each bit, the photos that set and clear it. A checkpoint adds class activation maps,
    erased regions and, for methods that compute bits from class probabilities, the classes and clusters that move each
    bit. A bundle shows attention maps if it was exported with --extra-output attention.

    \b
    Example: milvus-fghash explain runs/birds --data photos --against bundles/other --out explained
    """
    bits = _numbers(bits_shown)
    from milvus_fghash.explain.explain import ExplainOptions, open_model
    from milvus_fghash.explain.explain import explain as run

    dataset = reading.read_files(data)
    paths = [model, *([against] if against else [])]
    models = [open_model(path, **encoding, device=device) for path in paths]
    options = ExplainOptions(query_split, gallery_split, queries, images, k, bits, max_maps)
    notify_warnings(dataset)
    name = f"{reading.layout(data)} {data.resolve().name}"
    with progress_bar("encoding the gallery") as progress:
        result = run(models, dataset, out, options, dataset_name=name, overwrite=overwrite, progress=progress)
    document = {
        "page": str(result.page),
        "queries": result.n_queries,
        "gallery": result.n_gallery,
        "bits": result.n_bits,
        "rejected": [{"path": one.path, "reason": one.reason} for one in result.rejected],
    }
    show(document if as_json else document | {"rejected": len(result.rejected)}, as_json)
    if len(result.rejected) > max_errors:
        raise TooManyRejected(
            f"{len(result.rejected)} photos could not be read (listed at the end of the page), {max_errors} are "
            "allowed (--max-errors)"
        )


def _numbers(text: str | None) -> tuple[int, ...] | None:
    """0,5,7 -> (0, 5, 7), in the given order, without repetitions."""
    if text is None:
        return None
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise click.UsageError(f"--bits-shown expects numbers such as 0,5,7, got {text!r}") from None
