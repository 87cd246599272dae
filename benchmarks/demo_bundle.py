"""Build the bundle of the demo: train on generated birds and export.

    python benchmarks/demo_bundle.py --out bundle
    cp bundle/* milvus_fghash/demo/bundle/

A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import milvus_fghash as fg
from milvus_fghash.datasets.synthetic.drawings import draw_splits
from milvus_fghash.demo.shipped import SIZE, TRAINED, TRAINING_SEED

RECIPE = "demo-fcaenet"
BITS = 48


def make(out: Path, folder: Path, changes: list[str]) -> fg.Bundle:
    """Train on `TRAINED` below ``folder`` and write the bundle to ``out``."""
    photos = draw_splits(folder / "birds", TRAINED, SIZE, TRAINING_SEED)
    checkpoint = fg.train(RECIPE, photos, out=folder / "training", bits=BITS, changes=changes, device="cpu")
    return fg.export(checkpoint, out, learned_codes=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", dest="changes", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = make(options.out, Path(folder), options.changes)
        sizes = {file.name: file.stat().st_size for file in sorted(bundle.path.iterdir())}
        print(f"{bundle.path}: {sum(sizes.values()):,} bytes {sizes}")


if __name__ == "__main__":
    main()
