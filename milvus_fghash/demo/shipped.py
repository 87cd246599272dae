"""The demo with the built-in bundle: draw birds, ingest, search, find copies, evaluate. Needs no torch.

`benchmarks/demo_bundle.py` made the bundle, from the photos of `TRAINED`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from PIL import Image

from milvus_fghash.core.callbacks import Notify
from milvus_fghash.datasets.synthetic.drawings import MAX_CLASSES, draw_splits, kinds
from milvus_fghash.dedupe.report import redundant_rows
from milvus_fghash.errors import DataError

if TYPE_CHECKING:
    from milvus_fghash.catalog import Catalog
    from milvus_fghash.datasets.dataset import Dataset
    from milvus_fghash.evaluation.record import EvaluationRecord

SIZE: Final = 96
"""Width and height of a drawing, in pixels."""
KNOWN: Final = range(12)
"""The classes that the bundle was trained on."""
NEW: Final = range(24, 32)
"""Classes that it was not trained on: other combinations of the same parts."""
TRAINED: Final = {"train": (KNOWN, 60)}
"""Training drawings of `benchmarks/demo_bundle.py`, with `TRAINING_SEED`."""
TRAINING_SEED: Final = 0
CATALOG: Final = {"train": ([*KNOWN, *NEW], 20), "test": (KNOWN, 8), "val": (NEW, 8)}
"""Drawings of the demo: the catalog, and queries of known and of new classes."""
QUERIES_SHOWN: Final = 4
"""Number of queries on the page, of known classes and of new classes each."""
HITS: Final = 7
COPIES: Final = 5
"""Number of planted exact copies, and of planted copies that were saved again."""
COPY: Final = "copy-"
AGAIN: Final = "again-"
"""Prefixes of their file names."""


@dataclass(frozen=True)
class ShippedDemo:
    """Result of the demo.

    Attributes:
        records: gallery (`trained photos`, `new photos`, `new classes`) -> its evaluation.
        exact: number of planted exact copies that were found, of `COPIES`.
        again: number of planted, saved-again copies that were found, of `COPIES`.
        mistaken: number of other photos that were reported as copies.
        page: HTML page with the hits of some queries.
        folder: folder of all output.
        seconds: step -> seconds.
    """

    records: Mapping[str, EvaluationRecord]
    exact: int
    again: int
    mistaken: int
    page: Path
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)


def shipped_bundle() -> Path:
    """The bundle in this package: 48 bits, trained on drawings of 12 kinds of birds."""
    return Path(str(resources.files("milvus_fghash.demo") / "bundle"))


def run_shipped(
    out: Path, seed: int = 0, *, bundle: Path | None = None, notify: Notify = lambda message: None
) -> ShippedDemo:
    """Run the demo in ``out``, which must be new or empty.

    Args:
        out: folder for all output.
        seed: seed of the drawings. None of them was used for the training of the bundle.
        bundle: another bundle of the same classes, instead of the built-in one.
        notify: called with a message after each step.

    Raises:
        DataError: when ``out`` is not empty.
        MissingExtra: without ONNX Runtime or Milvus Lite.
    """
    from milvus_fghash.catalog import Catalog

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not an empty folder; choose another one", setting="out")
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def done(step: str, message: str) -> None:
        nonlocal started
        seconds[step], started = time.perf_counter() - started, time.perf_counter()
        notify(f"{message} ({seconds[step]:.1f} s)")

    drawings = draw_splits(out / "drawings", CATALOG, SIZE, seed + TRAINING_SEED + 1)
    trained = draw_splits(out / "trained", {"train": (KNOWN, 20)}, SIZE, TRAINING_SEED)
    plant_copies(drawings)
    n_classes = len(KNOWN) + len(NEW)
    done("draw", f"drew {len(drawings)} birds of {n_classes} classes, {len(NEW)} of which the bundle has never seen")
    database = out / "demo.db"
    with Catalog.open(database, "birds", bundle=bundle or shipped_bundle()) as catalog:
        result = catalog.ingest(out / "drawings", split="train")
        done("ingest", f"ingested {result.stored} of them into Milvus Lite, {catalog.encoder.bits} bits each")
        page = _show(catalog, drawings, out / "gallery.html")
        done("search", f"searched by {2 * QUERIES_SHOWN} others: {page}")
        exact, again, mistaken = _copies(catalog)
        done(
            "dedupe",
            f"found {exact} of {COPIES} exact copies, {again} of {COPIES} saved again, and {mistaken} mistaken ones",
        )
        with Catalog.open(database, "trained", bundle=catalog.encoder) as of_trained:
            of_trained.ingest(trained)
            records = _evaluate(catalog, of_trained, drawings)
        done("evaluate", "measured how well photos of the same class are found")
    return ShippedDemo(records, exact, again, mistaken, page, out, seconds)


def plant_copies(drawings: Dataset) -> None:
    """Add copies of some drawings: equal files, and files saved again at another quality."""
    photos = [drawings.file(row) for row, split in enumerate(drawings.splits) if split == "train"]
    step = len(photos) // (2 * COPIES)
    for number in range(COPIES):
        original = photos[2 * number * step]
        original.with_name(f"{COPY}{original.name}").write_bytes(original.read_bytes())
        original = photos[(2 * number + 1) * step]
        with Image.open(original) as image:
            image.save(original.with_name(f"{AGAIN}{original.name}"), quality=75)


def _copies(catalog: Catalog) -> tuple[int, int, int]:
    """Numbers of exact copies found, of saved-again copies found, and of other photos reported as copies."""
    found = catalog.dedupe()
    path_of = {one.id: one.path for group in found.groups for one in group.members}
    names = [PurePosixPath(path_of[key]).name for key in redundant_rows(found.groups, ["exact", "near"], "first")]
    exact, again = (sum(name.startswith(prefix) for name in names) for prefix in (COPY, AGAIN))
    return exact, again, len(names) - exact - again


def _show(catalog: Catalog, drawings: Dataset, page: Path) -> Path:
    from milvus_fghash.search.gallery import Query, write_gallery

    queries = []
    for split in ("test", "val"):
        unseen = drawings.split(split)
        for row in range(0, len(unseen), len(unseen) // QUERIES_SHOWN):
            photo = unseen.file(row)
            queries.append(Query(unseen.paths[row], catalog.search(photo, k=HITS), photo, unseen.labels[row]))
    write_gallery(
        page,
        queries,
        drawings.root,
        collection=catalog.collection,
        title="Generated birds: known classes first, then new ones",
    )
    return page


def _evaluate(catalog: Catalog, trained: Catalog, drawings: Dataset) -> dict[str, EvaluationRecord]:
    names = [kind.name for kind in kinds(MAX_CLASSES)]
    known, new = ([names[number] for number in numbers] for numbers in (KNOWN, NEW))
    return {
        "trained photos": trained.evaluate(drawings, query_split="test").encoded,
        "new photos": catalog.evaluate(drawings, query_split="test", filter=f"label in {known}").encoded,
        "new classes": catalog.evaluate(drawings, query_split="val", filter=f"label in {new}").encoded,
    }
