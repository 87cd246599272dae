"""`milvus-fghash wrap`: ONNX embedding model -> bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from milvus_fghash.cli.options.common import decoding_options, json_option, split_option_of
from milvus_fghash.cli.options.paths import NEW_PATH, READABLE
from milvus_fghash.cli.options.photos import PhotoOptions, notify_dataset, photo_options
from milvus_fghash.cli.terminal.output import show
from milvus_fghash.cli.terminal.progress import progress_bar
from milvus_fghash.core.code_length import MAX_BITS, MIN_BITS


def _triple(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Three numbers `r,g,b`, or one for all channels."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        raise click.BadParameter(f"{text!r} is neither a number nor three numbers r,g,b", ctx, parameter)
    return numbers * 3 if len(numbers) == 1 else numbers


@click.command()
@click.argument("model", type=READABLE)
@click.option("--data", type=READABLE, required=True, help="Folder or list of the photos to fit on.")
@photo_options()
@split_option_of("train if there is one, else all")
@click.option("--out", type=NEW_PATH, required=True, help="Folder for the bundle.")
@click.option("--method", default="itq", help="Hash method; all but itq and lsh need torch.")
@click.option("--bits", type=click.IntRange(MIN_BITS, MAX_BITS), default=128, help="Code length in bits.")
@click.option(
    "--preprocessor",
    type=READABLE,
    help="preprocessor_config.json of the model.  [default: beside MODEL or one folder above]",
)
@click.option(
    "--mean", metavar="R,G,B", callback=_triple, help="Mean of RGB pixels in [0, 1].  [default: set by --preprocessor]"
)
@click.option(
    "--std",
    metavar="R,G,B",
    callback=_triple,
    help="Deviation of RGB pixels in [0, 1].  [default: set by --preprocessor]",
)
@click.option(
    "--size",
    type=click.IntRange(8, 2048),
    help="Side of the photos in pixels.  [default: set by --preprocessor or MODEL]",
)
@click.option(
    "--resize",
    type=click.IntRange(8, 4096),
    help="Side to which photos are resized before the centre crop.  [default: set by --preprocessor, else --size]",
)
@click.option(
    "--resize-mode",
    type=click.Choice(["shorter_side", "stretch"]),
    help="stretch: resize both sides to --resize.  [default: set by --preprocessor, else stretch]",
)
@click.option(
    "--interpolation",
    type=click.Choice(["bilinear", "bicubic"]),
    help="Filter of resizing.  [default: set by --preprocessor, else bilinear]",
)
@click.option("--output", help="Output that is the embedding.  [default: the only one, or one with a usual name]")
@click.option("--pooling", type=click.Choice(["class-token", "mean"]), help="How an output of tokens is pooled.")
@click.option("--licence", default="unknown", help="Licence of the model's weights, for the bundle.")
@click.option("--sample", type=click.IntRange(2), default=20_000, help="Most photos that itq and lsh are fitted on.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Random seed.")
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
@decoding_options
@json_option
def wrap(
    model: Path,
    data: Path,
    reading: PhotoOptions,
    split: str | None,
    decoding: dict[str, Any],
    as_json: bool,
    **options: Any,
) -> None:
    """Make a bundle from an ONNX embedding MODEL.

    MODEL takes photos and gives embeddings. Its preprocessing is read from a preprocessor_config.json, or given by
    options. The method is fitted on embeddings of the photos; itq and lsh need neither labels nor torch.

    \b
    Example: milvus-fghash wrap clip/model.onnx --data photos --bits 128 --out bundles/clip
    """
    from milvus_fghash.encoding.decode_options import DecodeOptions
    from milvus_fghash.wrapping.api import wrap as run

    dataset = reading.read(data)
    notify_dataset(dataset)
    given = {name: options.pop(name) for name in ("size", "resize", "resize_mode", "interpolation")}
    with progress_bar("embedding photos") as update:
        bundle = run(
            model,
            dataset,
            preprocessing={name: value for name, value in given.items() if value is not None},
            split=split,
            options=DecodeOptions(**decoding, follow_links=reading.selection.follow_links),
            progress=update,
            **options,
        )
    manifest = bundle.manifest
    result = {
        "bundle": str(bundle.path),
        "method": manifest.method,
        "bits": manifest.bits,
        "photos": manifest.training["photos"],
        "rejected": manifest.training.get("rejected", 0),
        "preprocessing": manifest.preprocessing.model_dump(),
        "mean": manifest.mean,
        "std": manifest.std,
        "fingerprint": manifest.fingerprint,
    }
    show(result, as_json)
