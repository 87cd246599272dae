"""`milvus-fghash demo`: the whole road on drawings."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.messages import tell
from milvus_fghash.cli.options import NEW_PATH, json_option
from milvus_fghash.cli.output import show_json, show_record, show_table
from milvus_fghash.errors import MissingExtra

if TYPE_CHECKING:
    from milvus_fghash.demo import DemoResult

NEEDED = ("torch", "torchvision", "safetensors", "onnx", "onnxscript", "onnxruntime", "milvus_lite", "matplotlib")


@click.command()
@click.option("--out", type=NEW_PATH, default=Path("milvus-fghash-demo"), help="New folder for everything it makes.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the drawings and the training.")
@json_option
def demo(out: Path, seed: int, as_json: bool) -> None:
    """Walk the whole road on birds that it draws itself.

    Draws birds that differ in small parts, trains FCAENet and LSH from the same start, exports both, ingests into
    Milvus Lite, searches by birds it has not seen, and evaluates. A few minutes on two cores, without a download.

    \b
    Example: milvus-fghash demo --out demo
    """
    lacking = [name for name in NEEDED if find_spec(name) is None]
    if lacking:  # found now rather than after the training
        raise MissingExtra(f"the demo needs {', '.join(lacking)}. Install them with: pip install 'milvus-fghash[all]'")
    from milvus_fghash.demo import run_demo

    result = run_demo(out, seed, tell=tell)
    if as_json:
        show_json({"records": _rows(result), "files": _files(result), "seconds": result.seconds})
    else:
        show_table(_rows(result))
        click.echo()
        show_record(_files(result))


def _rows(result: DemoResult) -> list[dict[str, Any]]:
    records = [*result.records.values(), *([result.learned] if result.learned else [])]
    return [
        {
            "method": record.method,
            "bits": record.bits,
            "gallery": record.gallery,
            "mAP": record.map_exact,
            "mAP of chance": record.map_chance,
            "P@1": record.precision_at.get(1),
        }
        for record in records
    ]


def _files(result: DemoResult) -> dict[str, Any]:
    return {
        "gallery_page": str(result.gallery),
        "plots": [str(plot) for plot in result.plots],
        "bundles": [str(bundle) for bundle in result.bundles.values()],
        "milvus_lite": str(result.database),
    }
