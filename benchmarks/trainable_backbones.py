"""Methods that work on maps, beside the Baseline, on a backbone that is trained with them.

    python benchmarks/trainable_backbones.py --cub CUB_100 --weights mobilenet_v2_imagenet.safetensors \
        --out runs/trainable

Two sets: 8 classes of drawn birds, and the first 30 classes of CUB_100, both as class folders at 128 px. Every method
sees about as many photos (`--photo-passes`) in the setting `finetune`, with its recipe's learning rate. A training that
is recorded is not repeated: a killed run goes on with the next method, and one that ended after `--hours` with those it
did not begin. OUT/SET-results has the tables.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from milvus_fghash.cli import main as command
from milvus_fghash.core.atomic_io import atomic_path
from milvus_fghash.datasets.read import read
from milvus_fghash.datasets.synthetic.drawings import draw_birds

METHODS = "baseline,exchnet,a2net,a2net-pp,semicon,agmh,fph,dash"
ROUNDS = range(8, 15)
"""The setting has 10, and its learning rate drops after the seventh and the ninth."""


def first_classes(cub: Path, folder: Path, count: int) -> None:
    """Copy the photos of the first classes to FOLDER/SPLIT/CLASS."""
    dataset = read("cub", cub)
    kept = set(dataset.classes[:count])
    with atomic_path(folder) as temporary:
        for row, label in enumerate(dataset.labels):
            if label in kept:
                place = temporary / dataset.splits[row] / label
                place.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(dataset.file(row), place / dataset.file(row).name)


def schedule(n_photos: int, photo_passes: int) -> tuple[int, int]:
    """Rounds and epochs of each round with about ``photo_passes`` in all; of equally near ones those with 10 rounds."""
    options = [(rounds, max(1, round(photo_passes / (rounds * n_photos)))) for rounds in ROUNDS]
    return min(options, key=lambda one: (abs(one[0] * one[1] * n_photos - photo_passes), abs(one[0] - 10)))


def compare(folder: Path, out: Path, bits: str, methods: str, arguments: argparse.Namespace, *more: str) -> None:
    rounds, epochs = schedule(len(read("folder", folder).split("train")), arguments.photo_passes)
    words = ["compare", "finetune", "--methods", methods, "--heads", "linear", "--bits", bits, "--seeds", "1"]
    words += ["--trials", "1", "--data", str(folder), "--weights", arguments.weights, "--out", str(out)]
    words += ["--set", f"training.rounds={rounds}", "--set", f"training.epochs_per_round={epochs}", *more]
    for change in arguments.set:
        words += ["--set", change]
    command.main(words, standalone_mode=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cub", type=Path, help="Folder of CUB_100; without it, drawn birds only.")
    parser.add_argument("--classes", type=int, default=30, help="Classes of CUB_100.")
    parser.add_argument("--drawn", type=int, default=40, help="Drawn training photos of each of the 8 classes.")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--bits", default="24,48")
    parser.add_argument("--photo-passes", type=int, default=40_000)
    parser.add_argument("--hours", type=float, default=4.0, help="No training begins after this time.")
    parser.add_argument("--set", action="append", default=[], help="Change of every recipe, KEY=VALUE.")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    folders = [arguments.out / "drawn-birds"]
    if not folders[0].exists():
        draw_birds(folders[0], classes=8, train_per_class=arguments.drawn, test_per_class=20, size=128)
    if arguments.cub:
        folders.append(arguments.out / f"cub-{arguments.classes}")
        if not folders[1].exists():
            first_classes(arguments.cub, folders[1], arguments.classes)
    ends = time.monotonic() + 3600 * arguments.hours
    for bits in arguments.bits.split(","):
        for folder in folders:
            for method in arguments.methods.split(","):
                if time.monotonic() < ends:
                    compare(folder, arguments.out / f"{folder.name}-results", bits, method, arguments)
    for folder in folders:
        out = arguments.out / f"{folder.name}-results"
        if out.exists():
            compare(folder, out, arguments.bits, arguments.methods, arguments, "--table-only")


if __name__ == "__main__":
    main()
