"""Retrieval of classes that are not in the training set.

    python benchmarks/unseen_classes.py --data CUB_100 --weights mobilenet_v2_imagenet.safetensors --out runs/unseen \
        --methods baseline,dsh,kinhash --bits 12,48 --seeds 3

A seed draws the unseen classes (a fifth of all), the same for every method. Methods train on the training photos of
the other classes. Then the test photos of the unseen classes are the queries and their training photos the gallery;
both are encoded by the network. Each result is a JSON line in OUT/results.jsonl with its recipe, so a killed run
continues where it stopped. The method's own random choices keep the recipe's seed. Learning rates are the recipes'
unless `--rates` gives a factor: `--rates baseline=3,dsh=0.333`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from pathlib import Path

import torch

from milvus_fghash.datasets import read as data
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.evaluation.metrics import distance_histogram, mean_average_precision
from milvus_fghash.recipes.loader import compose
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.checkpoint import load_checkpoint
from milvus_fghash.training.feature_cache import dataset_features
from milvus_fghash.training.run import run_training
from milvus_fghash.training.sources import encode
from milvus_fghash.training.weights import by_content, decisive

CPU = torch.device("cpu")


def unseen_classes(dataset: Dataset, seed: int) -> set[str]:
    """A fifth of the classes."""
    classes = dataset.classes
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed)).tolist()
    return {classes[place] for place in order[: len(classes) // 5]}


def recipe_of(method: str, bits: int, seed: int, factor: float, arguments: argparse.Namespace) -> Recipe:
    """The recipe of one training."""
    rate = compose(arguments.setting, method).at(bits).training.learning_rate * factor
    weights = json.dumps(str(arguments.weights), ensure_ascii=False)
    changes = [f"backbone.weights={weights}", f"head.kind='{arguments.head}'"]
    changes += [f"training.seed={seed}", f"training.learning_rate={rate}", *arguments.set]
    return compose(arguments.setting, method, changes).at(bits)


def measure(dataset: Dataset, recipe: Recipe, bits: int, seed: int, arguments: argparse.Namespace) -> float:
    """mAP of the test photos of unseen classes among their training photos."""
    unseen = unseen_classes(dataset, seed)
    seen = [row for row, label in enumerate(dataset.labels) if label not in unseen and dataset.splits[row] == "train"]
    folder = arguments.out / "training"
    shutil.rmtree(folder, ignore_errors=True)
    cache = arguments.feature_cache or arguments.out / "features"
    network = load_checkpoint(run_training(recipe, bits, dataset.take(seen), folder, feature_cache=cache)).method
    codes, labels = {}, {}
    for split in ("test", "train"):
        of_split = dataset.split(split)
        rows = [row for row, label in enumerate(of_split.labels) if label in unseen]
        photos = of_split.take(rows)
        features = dataset_features(network, photos, recipe, cache, CPU, centre_crop_only=True)
        codes[split] = encode(network, features, CPU)
        labels[split] = photos.label_numbers(dataset.classes)
    shutil.rmtree(folder)
    return mean_average_precision(
        distance_histogram(codes["test"], labels["test"], codes["train"], labels["train"], bits)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--layout", default="cub")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--feature-cache", type=Path)
    parser.add_argument("--setting", default="frozen")
    parser.add_argument("--head", default="mlp")
    parser.add_argument("--methods", default="baseline,fcaenet,dpsh,dsh,hashnet,orthohash,kinhash")
    parser.add_argument("--bits", default="12,48")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", default="", help="Factors of the recipes' learning rates, METHOD=FACTOR,...")
    parser.add_argument("--set", action="append", default=[], help="Change of every recipe, KEY=VALUE.")
    arguments = parser.parse_args()
    factors = {name: float(value) for name, value in (pair.split("=") for pair in arguments.rates.split(",") if pair)}
    dataset = data.read(arguments.layout, arguments.data)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = arguments.out / "results.jsonl"
    complete = (
        results.read_bytes().rpartition(b"\n")[0] if results.exists() else b""
    )  # a kill may leave an incomplete line
    results.write_bytes(complete + b"\n" if complete else b"")
    found = {entry["asked"]: entry["map"] for entry in map(json.loads, complete.splitlines())}
    methods, lengths = arguments.methods.split(","), [int(bits) for bits in arguments.bits.split(",")]
    values = {}
    for seed in range(arguments.seeds):
        for method in methods:
            for bits in lengths:
                recipe = recipe_of(method, bits, seed, factors.get(method, 1.0), arguments)
                key = json.dumps([arguments.data.name, bits, decisive(by_content(recipe)).model_dump(mode="json")])
                if key not in found:
                    found[key] = measure(dataset, recipe, bits, seed, arguments)
                    with results.open("a") as file:
                        file.write(json.dumps({"asked": key, "map": found[key]}) + "\n")
                values[method, bits, seed] = found[key]
    print("| method | " + " | ".join(f"{bits} bits" for bits in lengths) + " |\n|---|" + "---|" * len(lengths))
    for method in methods:
        cells = []
        for bits in lengths:
            of_seeds = [values[method, bits, seed] for seed in range(arguments.seeds)]
            spread = f" ± {statistics.stdev(of_seeds):.3f}" if len(of_seeds) > 1 else ""
            cells.append(f"{statistics.mean(of_seeds):.3f}{spread}")
        print(f"| {method} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
