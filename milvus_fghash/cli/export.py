"""`milvus-fghash export`: checkpoint -> ONNX bundle."""

from __future__ import annotations

from pathlib import Path

import click

from milvus_fghash.cli.options.common import json_option
from milvus_fghash.cli.options.paths import NEW_PATH, READABLE
from milvus_fghash.cli.terminal.output import show
from milvus_fghash.cli.terminal.progress import progress_bar
from milvus_fghash.errors import optional_extra


@click.command()
@click.argument("checkpoint", type=NEW_PATH)
@click.option("--out", type=NEW_PATH, required=True, help="Folder for the bundle.")
@click.option("--extra-output", "extra_outputs", type=click.Choice(["embedding", "attention"]), multiple=True,
              help="Output of the model in addition to logits and codes. May be repeated.")  # fmt: skip
@click.option("--check-images", type=READABLE,
              help="Photos (folder, list or archive) on which ONNX is compared with torch.  [default: "
              "generated drawings]")  # fmt: skip
@click.option("--max-flip-rate", type=click.FloatRange(0, 1), default=0.001,
              help="Largest fraction of bits that may differ between torch and ONNX.")  # fmt: skip
@click.option("--ir-version", type=click.IntRange(8, 10), default=10,
              help="IR version of the ONNX file: 10 needs ONNX Runtime 1.18, 9 needs 1.15.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
@json_option
def export(
    checkpoint: Path,
    out: Path,
    extra_outputs: tuple[str, ...],
    check_images: Path | None,
    max_flip_rate: float,
    ir_version: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Export a CHECKPOINT as an ONNX bundle.

    A bundle is a folder with an ONNX model that maps pixels to codes, and its description. The ONNX model is compared
    with the torch network first; if more bits differ than --max-flip-rate allows, nothing is written.

    \b
    Example: milvus-fghash export runs/cub48 --out bundles/cub48
    """
    with optional_extra("train"):
        from milvus_fghash.exporters.onnx_bundle import export as run
    with progress_bar("exporting"):
        bundle = run(
            checkpoint,
            out,
            outputs=extra_outputs,
            check_images=check_images,
            max_flip_rate=max_flip_rate,
            ir_version=ir_version,
            overwrite=overwrite,
        )
    manifest = bundle.manifest
    result = {
        "bundle": str(bundle.path),
        "method": manifest.method,
        "bits": manifest.bits,
        "fingerprint": manifest.fingerprint,
        "flip_rate": manifest.flip_rate,
        "outputs": list(manifest.outputs),
    }
    show(result, as_json)
