"""The main table on a frozen trunk: methods x heads x code lengths x seeds, both galleries.

    python benchmarks/frozen_table.py --data ../shared/data/CUB_100 --dataset cub \
        --weights ../shared/weights/mobilenet_v2_imagenet.safetensors --out runs/frozen-cub

Several of these commands with other --methods, --heads or --bits can run side by side on one OUT.

Each cell is trained by `milvus_fghash.training.run.train` from the shipped recipe `frozen-METHOD`, then evaluated on
features of the test photos. A cell's result is one JSON file in OUT/cells, so a killed grid goes on where it stopped.
The last round is evaluated; nothing is selected on the test photos. Prints the table as Markdown.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from milvus_fghash import data
from milvus_fghash.bits import pack
from milvus_fghash.config import Recipe
from milvus_fghash.data.listing import Listing
from milvus_fghash.methods.base import HashMethod
from milvus_fghash.metrics import distance_histogram, mean_average_precision
from milvus_fghash.recipe_book import load_recipe
from milvus_fghash.training.checkpoint import build_method, load_checkpoint
from milvus_fghash.training.photos import Photos
from milvus_fghash.training.run import train
from milvus_fghash.training.sources import cached_features
from milvus_fghash.training.trunks import build_trunk


@dataclass(frozen=True)
class Cell:
    method: str
    head: str
    bits: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}-{self.head}-{self.bits}-seed{self.seed}"


@dataclass(frozen=True)
class Place:
    """What all cells share."""

    data: Path
    dataset: str
    weights: str
    out: Path
    changes: tuple[str, ...]

    def listing(self) -> Listing:
        return data.read(self.dataset, self.data)


def recipe_of(cell: Cell, place: Place) -> Recipe:
    changes = [f"head.kind={cell.head}", f"training.seed={cell.seed}", f"method.options.seed={cell.seed}"]
    return load_recipe(f"frozen-{cell.method}", [f"trunk.weights={place.weights}", *changes, *place.changes])


def features(place: Place, recipe: Recipe, split: str, method: HashMethod | None = None) -> torch.Tensor:
    """(n, n_features) of the centre crops of one split, cached beside the training's."""
    photos = place.listing().split(split)
    if method is None:
        recipe = load_recipe("frozen-lsh", [f"trunk.weights={place.weights}"])
        trunk = build_trunk(recipe.trunk.name, recipe.trunk.weights)
        method = build_method(recipe, 8, trunk, len(photos.classes), len(photos))
    views = Photos(photos, recipe.preprocessing, recipe.augmentation)
    cached = cached_features(method, views, recipe, place.out / "features", torch.device("cpu"))
    return cached["anchor"][0]


@torch.no_grad()
def run_cell(cell: Cell, place: Place) -> dict[str, object]:
    recipe, listing = recipe_of(cell, place), place.listing()
    started = time.perf_counter()
    with torch.enable_grad():
        folder = train(
            recipe,
            cell.bits,
            listing,
            place.out / "trainings" / cell.name,
            resume=True,
            feature_cache=place.out / "features",
        )
    seconds = time.perf_counter() - started
    method = load_checkpoint(folder).method
    train_photos, test_photos = listing.split("train"), listing.split("test")
    classes = train_photos.classes
    galleries = {"encoded": pack(method.head(features(place, recipe, "train")).numpy())}
    learned = method.learned_codes(torch.from_numpy(train_photos.label_numbers(classes)))
    if learned is not None:
        galleries["learned"] = pack(learned.numpy())
    queries = pack(method.head(features(place, recipe, "test")).numpy())
    scores = {}
    for name, gallery in galleries.items():
        histogram = distance_histogram(
            queries, test_photos.label_numbers(classes), gallery, train_photos.label_numbers(classes), cell.bits
        )
        scores[name] = mean_average_precision(histogram)
    return {**asdict(cell), **scores, "seconds": seconds, "recipe": recipe.model_dump(mode="json")}


def table(results: Iterable[dict[str, object]]) -> str:
    """Mean and standard deviation over seeds, one row for method and head."""
    groups: dict[tuple[str, str], dict[tuple[int, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        row = groups[str(result["method"]), str(result["head"]) if result["method"] != "lsh" else "–"]
        for key in ("learned", "encoded"):
            if isinstance(value := result.get(key), float):
                row[int(str(result["bits"])), key].append(value)
    lengths = sorted({bits for row in groups.values() for bits, _ in row})
    columns = [(bits, key) for bits in lengths for key in ("learned", "encoded")]
    lines = ["| method | head | seeds | " + " | ".join(f"{bits} bits {key}" for bits, key in columns) + " |"]
    lines.append("|" + "---|" * (len(columns) + 3))
    for (method, head), row in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])):
        seeds = max(len(values) for values in row.values())
        cells = [_mean(row[column]) for column in columns]
        lines.append(f"| {method} | {head} | {seeds} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", default="cub")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", default="lsh,baseline,fcaenet")
    parser.add_argument("--heads", default="linear,mlp")
    parser.add_argument("--bits", default="12,48")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="More threads help little: the layers are small.")
    parser.add_argument("--table-only", action="store_true", help="Print what there is and train nothing.")
    parser.add_argument("--set", action="append", default=[], help="Change of every recipe, KEY=VALUE.")
    arguments = parser.parse_args()
    place = Place(arguments.data, arguments.dataset, arguments.weights, arguments.out, tuple(arguments.set))
    cells = [
        Cell(method, head, int(bits), seed)
        for head in arguments.heads.split(",")
        for seed in range(arguments.seeds)
        for method in arguments.methods.split(",")
        for bits in arguments.bits.split(",")
        if method != "lsh" or head == "linear"
    ]
    folder = place.out / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    missing = [cell for cell in cells if not (folder / f"{cell.name}.json").exists() and not arguments.table_only]
    for method in dict.fromkeys(cell.method for cell in missing):
        first = next(cell for cell in missing if cell.method == method)
        recipe = recipe_of(first, place)
        photos = place.listing().split("train")
        trunk = build_trunk(recipe.trunk.name, recipe.trunk.weights)
        features(place, recipe, "train", build_method(recipe, first.bits, trunk, len(photos.classes), len(photos)))
    if missing:
        features(place, recipe_of(missing[0], place), "test")
    for cell in missing:
        result = run_cell(cell, place)
        (folder / f"{cell.name}.json").write_text(json.dumps(result, indent=1))
        print({key: value for key, value in result.items() if key != "recipe"}, flush=True)
    done = [folder / f"{cell.name}.json" for cell in cells]
    print(table(json.loads(path.read_text()) for path in done if path.exists()))


if __name__ == "__main__":
    main()
