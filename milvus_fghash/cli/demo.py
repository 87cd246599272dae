"""`milvus-fghash demo`: search drawn birds with the shipped bundle, or walk the whole road."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.messages import notify
from milvus_fghash.cli.options import NEW_PATH, json_option
from milvus_fghash.cli.output import show_json, show_record, show_table
from milvus_fghash.errors import MissingExtra

if TYPE_CHECKING:
    from milvus_fghash.demo.training import DemoResult
    from milvus_fghash.evaluation.record import EvaluationRecord

NEEDED = ("onnxruntime", "milvus_lite")
NEEDED_TO_TRAIN = ("torch", "torchvision", "safetensors", "onnx", "onnxscript", *NEEDED, "matplotlib")


@click.command()
@click.option("--out", type=NEW_PATH, default=Path("milvus-fghash-demo"), help="New folder for everything it makes.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the drawings, and of the training.")
@click.option("--train", "trains", is_flag=True, help="Train two networks first, instead of taking the shipped bundle.")
@json_option
def demo(out: Path, seed: int, trains: bool, as_json: bool) -> None:
    """Try it on generated bird drawings.

    Draws birds that differ in small parts, encodes them with a bundle that is part of this package, ingests them into
    Milvus Lite, searches, finds planted copies, and measures how well photos of a class are found: photos that the
    bundle was trained on, new photos, and new classes. Some seconds, no torch, no download.

    With --train it makes its own bundles: FCAENet and LSH from the same start, trained, exported, ingested and
    compared. A few minutes on two cores.

    \b
    Example: milvus-fghash demo
             milvus-fghash demo --train --out trained
    """
    lacking = [name for name in (NEEDED_TO_TRAIN if trains else NEEDED) if find_spec(name) is None]
    if lacking:  # found now rather than after the work
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
    show_record({"page of hits": str(result.page), "drawings": str(result.folder / "drawings")})
    click.echo("\nTo train such a bundle: milvus-fghash demo --train; on your own photos: milvus-fghash train --help")


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
