"""The demo with training: draw birds, train two methods, export, ingest into Milvus Lite, search, evaluate.

Packages for training are imported inside functions, because the command checks for them first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from milvus_fghash.core.callbacks import Notify
from milvus_fghash.errors import DataError
from milvus_fghash.recipes.loader import load_recipe

if TYPE_CHECKING:
    from milvus_fghash.datasets.dataset import Dataset
    from milvus_fghash.encoding.encoder import Encoder
    from milvus_fghash.evaluation.record import EvaluationRecord
    from milvus_fghash.milvus.collection import HashCollection

METHODS: Final = ("fcaenet", "lsh")
BITS: Final = 48
QUERIES: Final = 8
"""Rows of the gallery page."""
HITS: Final = 7


@dataclass(frozen=True)
class DemoResult:
    """Output of the demo, and how well both methods retrieve new drawings."""

    records: dict[str, EvaluationRecord]
    """Method -> its encoded gallery's record."""
    learned: EvaluationRecord | None
    """FCAENet's learned gallery."""
    gallery: Path
    plots: tuple[Path, ...]
    bundles: dict[str, Path]
    database: Path
    seconds: dict[str, float] = field(default_factory=dict)
    """Step -> seconds."""


def run_demo(
    out: Path, seed: int = 0, *, shuffle_labels: bool = False, notify: Notify = lambda line: None
) -> DemoResult:
    """Run the demo in ``out``, which must be new or empty.

    Both methods start from the same backbone with random weights. FCAENet trains it; LSH uses it unchanged.

    Args:
        out: folder for all output.
        seed: seed of drawings, weights and training.
        shuffle_labels: train on shuffled labels, to check that the quality comes from the labels.
        notify: called with a line for each step.

    Raises:
        DataError: when ``out`` is not empty.
    """
    from milvus_fghash.datasets.synthetic.drawings import draw_birds

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder; choose another one", setting="out")
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def done(step: str) -> None:
        nonlocal started
        now = time.perf_counter()
        seconds[step] = now - started
        started = now

    dataset = draw_birds(out / "drawings", size=96, seed=seed)
    notify(f"drew {len(dataset)} birds of {len(dataset.classes)} classes that differ in small parts")
    done("draw")
    bundles = {}
    for method in METHODS:
        bundles[method] = _learn(method, _shuffled(dataset, seed) if shuffle_labels else dataset, out, seed, notify)
        done(f"train and export {method}")
    records, learned, gallery = _serve(bundles, dataset, out, shuffle_labels, notify)
    done("ingest, search and evaluate")
    from milvus_fghash.evaluation.plots import write_plots

    shown = {f"{name}, {record.bits} bits": record for name, record in records.items()}
    plots = tuple(write_plots(shown, out / "plots"))
    done("plots")
    return DemoResult(records, learned, gallery, plots, bundles, out / "demo.db", seconds)


def _learn(method: str, dataset: Dataset, out: Path, seed: int, notify: Notify) -> Path:
    from milvus_fghash.exporters.onnx_bundle import export
    from milvus_fghash.training.draws import with_seed
    from milvus_fghash.training.run import Watcher, run_training

    recipe = with_seed(load_recipe(f"demo-{method}"), seed)
    watcher = Watcher(
        round=lambda record, rounds: notify(
            f"{method}: round {record.round} of {rounds}, {record.images_per_second:.0f} drawings/s"
        )
    )
    checkpoint = run_training(recipe, BITS, dataset, out / "trainings" / method, device="cpu", watcher=watcher)
    bundle = export(checkpoint, out / "bundles" / method)
    notify(f"{method}: exported to {bundle.path}")
    return bundle.path


def _serve(
    bundles: dict[str, Path], dataset: Dataset, out: Path, shuffled: bool, notify: Notify
) -> tuple[dict[str, EvaluationRecord], EvaluationRecord | None, Path]:
    """Ingest the training drawings, search with new ones, and evaluate the collection."""
    from contextlib import closing

    from milvus_fghash.encoding.encoder import Encoder
    from milvus_fghash.evaluation.evaluate import evaluate_bundle, evaluate_collection
    from milvus_fghash.ingest.api import ingest
    from milvus_fghash.milvus.collection import HashCollection
    from milvus_fghash.milvus.connection import ConnectionConfig, connect

    records: dict[str, EvaluationRecord] = {}
    learned: EvaluationRecord | None = None
    page = out / "gallery.html"
    with closing(connect(ConnectionConfig(uri=str(out / "demo.db")))) as client:
        for method, path in bundles.items():
            encoder = Encoder.open(path)
            collection = HashCollection.create(client, f"birds_{method}", encoder.bundle.manifest)
            result = ingest(encoder, dataset.split("train"), collection)
            notify(f"{method}: {result.stored} codes of {encoder.bits} bits in Milvus Lite")
            from_milvus = evaluate_collection(collection, encoder, dataset, dataset_name="drawings")
            records[method] = from_milvus.encoded
            from_milvus.write(out / f"evaluation-{method}.json")
            if method == "fcaenet":
                if not shuffled:  # the learned codes carry the labels of the training
                    learned = evaluate_bundle(encoder, dataset, dataset_name="drawings").learned
                _write_page(page, encoder, collection, dataset)
    return records, learned, page


def _write_page(page: Path, encoder: Encoder, collection: HashCollection, dataset: Dataset) -> None:
    from milvus_fghash.search.gallery import Query, write_gallery
    from milvus_fghash.search.search import SearchParams, search_file

    unseen = dataset.split("test")
    rows = [int(row * len(unseen) / QUERIES) for row in range(QUERIES)]
    queries = [
        Query(
            unseen.paths[row],
            search_file(collection, encoder, unseen.file(row), SearchParams(k=HITS)),
            unseen.file(row),
            unseen.labels[row],
        )
        for row in rows
    ]
    write_gallery(
        page,
        queries,
        dataset.root,
        collection=collection,
        title="New drawings, and the nearest training drawings",
    )


def _shuffled(dataset: Dataset, seed: int) -> Dataset:
    """The same drawings with the labels of the training drawings shuffled."""
    from dataclasses import replace

    import numpy as np

    labels = np.array(dataset.labels)
    rows = [row for row, split in enumerate(dataset.splits) if split == "train"]
    labels[rows] = np.random.default_rng(seed).permutation(labels[rows])
    return replace(dataset, labels=tuple(labels.tolist()))
