"""`milvus-fghash export`: checkpoint -> bundle."""

from __future__ import annotations

from pathlib import Path

import click

from milvus_fghash.cli.options import NEW_PATH, READABLE, json_option
from milvus_fghash.cli.output import show_json, show_record
from milvus_fghash.cli.progress import progress_bar
from milvus_fghash.errors import optional_extra


@click.command()
@click.argument("checkpoint", type=NEW_PATH)
@click.option("--out", type=NEW_PATH, required=True, help="Folder of the new bundle.")
@click.option("--output", "more", type=click.Choice(["embedding", "attention"]), multiple=True,
              help="A further output beside logits and codes; may be given twice.")  # fmt: skip
@click.option("--check-images", type=READABLE,
              help="Folder, list or archive of photos to compare torch and ONNX on.  [default: drawings]")  # fmt: skip
@click.option("--max-flip-rate", type=click.FloatRange(0, 1), default=0.001,
              help="Share of bits that may differ between torch and ONNX.")  # fmt: skip
@click.option("--ir-version", type=click.IntRange(8, 10), default=10,
              help="Form of the ONNX file: ONNX Runtime reads 10 from 1.18 on, 9 from 1.15 on.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there.")
@json_option
def export(
    checkpoint: Path,
    out: Path,
    more: tuple[str, ...],
    check_images: Path | None,
    max_flip_rate: float,
    ir_version: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Turn a CHECKPOINT into a bundle that can be served.

    The bundle is a folder: an ONNX graph from pixels to codes, and its description. The graph is compared with the
    network first; nothing is written when they differ in more bits than --max-flip-rate allows.

    \b
    Example: milvus-fghash export runs/cub48 --out bundles/cub48
    """
    with optional_extra("train"):
        from milvus_fghash.exporters.onnx_bundle import export as run
    with progress_bar("exporting"):
        bundle = run(
            checkpoint,
            out,
            outputs=more,
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
    if as_json:
        show_json(result)
    else:
        show_record(result)
