"""`milvus-fghash demo`: all steps on generated bird drawings, with the built-in bundle or newly trained ones."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.options.common import json_option
from milvus_fghash.cli.options.paths import NEW_PATH
from milvus_fghash.cli.terminal.messages import notify
from milvus_fghash.cli.terminal.output import show_json, show_record, show_table
from milvus_fghash.errors import MissingExtra

if TYPE_CHECKING:
    from milvus_fghash.demo.training import DemoResult
    from milvus_fghash.evaluation.record import EvaluationRecord

REQUIRED = ("onnxruntime", "milvus_lite")
REQUIRED_TO_TRAIN = ("torch", "torchvision", "safetensors", "onnx", "onnxscript", *REQUIRED, "matplotlib")


@click.command()
@click.option("--out", type=NEW_PATH, default=Path("milvus-fghash-demo"), help="New folder for all output.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Random seed of drawings and training.")
@click.option("--train", "trains", is_flag=True, help="Train two networks instead of using the built-in bundle.")
@json_option
def demo(out: Path, seed: int, trains: bool, as_json: bool) -> None:
    """Try it on generated bird drawings.

    Generates drawings of birds that differ in small parts, encodes them with the built-in bundle, ingests them into
    Milvus Lite, searches, finds planted copies, and evaluates three galleries: the training photos of the bundle, new
    photos of its classes, and new classes. Takes a few seconds; needs no torch and no download.

    With --train it trains, exports, ingests and compares two networks, FCAENet and LSH, with the same initial weights.
    Takes a few minutes on two cores.

    \b
    Example: milvus-fghash demo
             milvus-fghash demo --train --out trained
    """
    lacking = [name for name in (REQUIRED_TO_TRAIN if trains else REQUIRED) if find_spec(name) is None]
    if lacking:  # checked before the work starts
        extras = "all" if trains else "cpu,lite"
        raise MissingExtra(
            f"the demo needs {', '.join(lacking)}. Install them with: pip install 'milvus-fghash[{extras}]'"
        )
    if trains:
        _train(out, seed, as_json)
    else:
        _shipped(out, seed, as_json)


def _shipped(out: Path, seed: int, as_json: bool) -> None:
    from milvus_fghash.demo.shipped import COPIES, run_shipped

    result = run_shipped(out, seed, notify=notify)
    rows = [{"gallery": name, **_row(record)} for name, record in result.records.items()]
    copies = {
        "planted of each": COPIES,
        "exact": result.exact,
        "saved again": result.again,
        "mistaken": result.mistaken,
    }
    if as_json:
        files = {"gallery_page": str(result.page), "folder": str(result.folder)}
        show_json({"records": rows, "copies": copies, "files": files, "seconds": result.seconds})
        return
    show_table(rows)
    click.echo()
    show_record({"search results": str(result.page), "drawings": str(result.folder / "drawings")})
    click.echo("\nNext: milvus-fghash demo --train trains a bundle; milvus-fghash train --help, on your photos")


def _train(out: Path, seed: int, as_json: bool) -> None:
    from milvus_fghash.demo.training import run_demo

    result = run_demo(out, seed, notify=notify)
    if as_json:
        show_json({"records": _rows(result), "files": _files(result), "seconds": result.seconds})
    else:
        show_table(_rows(result))
        click.echo()
        show_record(_files(result))


def _row(record: EvaluationRecord) -> dict[str, Any]:
    return {
        "method": record.method,
        "bits": record.bits,
        "photos": record.n_gallery,
        "queries": record.n_queries,
        "mAP": record.map_exact,
        "mAP of chance": record.map_chance,
        "P@1": record.precision_at.get(1),
    }


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
