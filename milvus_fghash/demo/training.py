"""The whole road on drawings: draw, train two methods, export, ingest into Milvus Lite, search, evaluate, show.

Packages of training are imported inside functions: this file is checked before they are missed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from milvus_fghash.errors import DataError
from milvus_fghash.recipe_book import load_recipe

if TYPE_CHECKING:
    from milvus_fghash.data.listing import Listing
    from milvus_fghash.evaluate import EvaluationRecord
    from milvus_fghash.serving.collection import HashCollection
    from milvus_fghash.serving.encoder import Encoder

METHODS: Final = ("fcaenet", "lsh")
BITS: Final = 48
QUERIES: Final = 8
"""Rows of the gallery page."""
HITS: Final = 7

Tell = Callable[[str], None]


@dataclass(frozen=True)
class DemoResult:
    """What the demo made, and how well both methods retrieve drawings they have not seen."""

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


def run_demo(out: Path, seed: int = 0, *, shuffle_labels: bool = False, tell: Tell = lambda line: None) -> DemoResult:
    """Run the whole road below ``out``, which must be new or empty.

    Both methods start from the same trunk with random weights. FCAENet trains it; LSH takes it as it is.

    Args:
        out: folder for everything the demo makes.
        seed: of drawings, weights and training.
        shuffle_labels: train on labels dealt out anew, as a check that quality comes from the labels.
        tell: called with a line for each step.

    Raises:
        DataError: when ``out`` is not empty.
    """
    from milvus_fghash.data.drawings import draw_birds

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder; choose another one", setting="out")
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def done(step: str) -> None:
        nonlocal started
        now = time.perf_counter()
        seconds[step] = now - started
        started = now

    listing = draw_birds(out / "drawings", size=96, seed=seed)
    tell(f"drew {len(listing)} birds of {len(listing.classes)} classes that differ in small parts")
    done("draw")
    bundles = {}
    for method in METHODS:
        bundles[method] = _learn(method, _shuffled(listing, seed) if shuffle_labels else listing, out, seed, tell)
        done(f"train and export {method}")
    records, learned, gallery = _serve(bundles, listing, out, shuffle_labels, tell)
    done("ingest, search and evaluate")
    from milvus_fghash.plots import write_plots

    shown = {f"{name}, {record.bits} bits": record for name, record in records.items()}
    plots = tuple(write_plots(shown, out / "plots"))
    done("plots")
    return DemoResult(records, learned, gallery, plots, bundles, out / "demo.db", seconds)


def _learn(method: str, listing: Listing, out: Path, seed: int, tell: Tell) -> Path:
    from milvus_fghash.exporters.onnx_bundle import export
    from milvus_fghash.training.draws import with_seed
    from milvus_fghash.training.run import Watcher, train

    recipe = with_seed(load_recipe(f"demo-{method}"), seed)
    watcher = Watcher(
        round=lambda record, rounds: tell(
            f"{method}: round {record.round} of {rounds}, {record.images_per_second:.0f} drawings/s"
        )
    )
    checkpoint = train(recipe, BITS, listing, out / "trainings" / method, device="cpu", watcher=watcher)
    bundle = export(checkpoint, out / "bundles" / method)
    tell(f"{method}: exported to {bundle.path}")
    return bundle.path


def _serve(
    bundles: dict[str, Path], listing: Listing, out: Path, shuffled: bool, tell: Tell
) -> tuple[dict[str, EvaluationRecord], EvaluationRecord | None, Path]:
    """Ingest the training drawings, search by unseen ones, and evaluate what stands in Milvus."""
    from contextlib import closing

    from milvus_fghash.serving.collection import HashCollection
    from milvus_fghash.serving.encoder import Encoder
    from milvus_fghash.serving.evaluation import evaluate_bundle, evaluate_collection
    from milvus_fghash.serving.ingest import ingest
    from milvus_fghash.serving.target import Target, connect

    records: dict[str, EvaluationRecord] = {}
    learned: EvaluationRecord | None = None
    page = out / "gallery.html"
    with closing(connect(Target(uri=str(out / "demo.db")))) as client:
        for method, path in bundles.items():
            encoder = Encoder.open(path)
            collection = HashCollection.create(client, f"birds_{method}", encoder.bundle.manifest)
            result = ingest(encoder, listing.split("train"), collection)
            tell(f"{method}: {result.stored} codes of {encoder.bits} bits in Milvus Lite")
            from_milvus = evaluate_collection(collection, encoder, listing, dataset="drawings")
            records[method] = from_milvus.encoded
            from_milvus.write(out / f"evaluation-{method}.json")
            if method == "fcaenet":
                if not shuffled:  # the learned codes carry the labels of the training
                    learned = evaluate_bundle(encoder, listing, dataset="drawings").learned
                _write_page(page, encoder, collection, listing)
    return records, learned, page


def _write_page(page: Path, encoder: Encoder, collection: HashCollection, listing: Listing) -> None:
    from milvus_fghash.serving.gallery import Query, write_gallery
    from milvus_fghash.serving.search import Wanted, search_file

    unseen = listing.split("test")
    rows = [int(row * len(unseen) / QUERIES) for row in range(QUERIES)]
    queries = [
        Query(
            unseen.paths[row],
            search_file(collection, encoder, unseen.file(row), Wanted(k=HITS)),
            unseen.file(row),
            unseen.labels[row],
        )
        for row in rows
    ]
    write_gallery(page, queries, listing.root, "Drawings the network has not seen, and the nearest it was trained on")


def _shuffled(listing: Listing, seed: int) -> Listing:
    """The same drawings with their labels dealt out anew among the training drawings."""
    from dataclasses import replace

    import numpy as np

    labels = np.array(listing.labels)
    rows = [row for row, split in enumerate(listing.splits) if split == "train"]
    labels[rows] = np.random.default_rng(seed).permutation(labels[rows])
    return replace(listing, labels=tuple(labels.tolist()))
