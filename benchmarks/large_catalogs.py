"""Posterior-ITQ on the features of a very large catalog: time, memory, size of the head, and mAP beside ITQ.

    python benchmarks/large_catalogs.py --out runs/large
    python benchmarks/large_catalogs.py --labelled --photos 200000 --out runs/large-labelled

The features are a mixture of components of uneven size (the k-th has a share in proportion to 1 / (k + 10)); with
``--labelled`` all components have the same number of photos, and these have the component as class. They are drawn into
one file, which is never in memory as a whole: as in `train`, the sample of photos is chosen first (`data.max_photos`),
and only its features are read. Components differ in 128 dimensions, in which their centres lie near
those of fewer groups, as species of a genus do.

Each fit is a process of its own, whose peak memory is reported. mAP is that of held-out draws of the mixture: a
thousand queries among 20,000 others, relevant are those of the same component.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from milvus_fghash.evaluation.quality import code_quality
from milvus_fghash.recipes.loader import compose
from milvus_fghash.training.on_features import NoBackbone, encode_features, fit_on_features
from milvus_fghash.training.training_set import MAX_PHOTOS, sample_photos

ROWS_AT_A_TIME: Final = 20_000
N_QUERIES, N_GALLERY = 1_000, 20_000
LATENT: Final = 128
"""Dimensions in which components differ."""


@dataclass(frozen=True)
class Mixture:
    """Components of uneven size in groups."""

    components: int
    width: int
    seed: int
    even: bool

    def draw(self, n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """n photos: their components, and their features (n, width)."""
        layout = np.random.default_rng(self.seed)
        latent = min(LATENT, self.width)
        groups = layout.standard_normal((max(1, self.components // 20), latent), np.float32)
        own = layout.standard_normal((self.components, latent), np.float32)
        centres = groups[np.arange(self.components) % len(groups)] + 0.6 * own
        to_features = layout.standard_normal((latent, self.width), np.float32) / np.float32(np.sqrt(latent))
        random = np.random.default_rng((self.seed, seed))
        if self.even:
            numbers = random.permutation(np.arange(n) % self.components)
        else:
            shares = 1 / (np.arange(self.components) + 10)
            numbers = random.choice(self.components, n, p=shares / shares.sum())
        spread = np.float32(0.5) * random.standard_normal((n, latent), np.float32)
        features = (centres[numbers] + spread) @ to_features
        features += random.standard_normal((n, self.width), np.float32)
        return numbers, np.maximum(features, 0)  # as after a ReLU


def write_features(mixture: Mixture, n: int, folder: Path) -> None:
    """Draw the photos into features.npy, float16, and components.npy; kept when they are there."""
    if (folder / "components.npy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    features = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float16, (n, mixture.width))
    numbers = np.empty(n, np.int64)
    for part, start in enumerate(range(0, n, ROWS_AT_A_TIME)):
        rows = slice(start, min(start + ROWS_AT_A_TIME, n))
        numbers[rows], features[rows] = mixture.draw(rows.stop - rows.start, part)
    features.flush()
    np.save(folder / "components.npy", numbers)


def fit(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit one method on a sample, and measure it."""
    torch.set_num_threads(arguments.threads)
    mixture = Mixture(arguments.components, arguments.width, 0, arguments.labelled)
    numbers = np.load(arguments.out / "components.npy")
    names = [f"{number:06d}" for number in numbers] if arguments.labelled else [""] * len(numbers)
    started, wall = time.process_time(), time.perf_counter()
    rows = sample_photos(names, arguments.max_photos, 0)
    views = torch.from_numpy(np.load(arguments.out / "features.npy", mmap_mode="r")[rows].astype(np.float32))[None]
    labels = np.unique(numbers[rows], return_inverse=True)[1] if arguments.labelled else np.full(len(rows), -1)
    backbone = NoBackbone(arguments.width)
    backbone.weights = nn.Parameter(torch.zeros(1).expand(arguments.parameters), requires_grad=False)
    recipe = compose("frozen", arguments.method)
    fitted = fit_on_features(recipe, (arguments.bits,), views, torch.from_numpy(labels), backbone)[arguments.bits]
    seconds, wall = time.process_time() - started, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    wanted, drawn = mixture.draw(N_QUERIES + N_GALLERY, 10**6)
    codes = encode_features(fitted, torch.from_numpy(drawn))
    n = N_QUERIES
    quality = code_quality(codes[:n], wanted[:n], codes[n:], wanted[n:], arguments.bits)
    return {
        "method": arguments.method,
        "photos": len(rows),
        "bits": arguments.bits,
        "cpu_seconds": round(seconds, 1),
        "wall_seconds": round(wall, 1),
        "peak_gb": round(peak, 2),
        "head_mb": round(sum(value.numel() * 4 for value in fitted.head.state_dict().values()) / 1e6, 2),
        "map": round(quality.map, 4),
        "precision_at_1": round(quality.precision_at_1, 4),
    }


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the features and of results.jsonl")
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--components", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=1_280)
    parser.add_argument("--labelled", action="store_true", help="components are classes of the same size")
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--parameters", type=int, default=10_000_000, help="weights of the encoder")
    parser.add_argument("--max-photos", type=int, default=MAX_PHOTOS)
    parser.add_argument("--times", type=int, default=4, help="second sample, as a multiple; 1: none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--method", help=argparse.SUPPRESS)  # a fit, in a process of its own
    return parser.parse_args()


def main() -> None:
    """Draw the features, run each fit, print and keep its figures."""
    arguments = parsed()
    if arguments.method:
        print(json.dumps(fit(arguments)))
        return
    started = time.perf_counter()
    mixture = Mixture(arguments.components, arguments.width, 0, arguments.labelled)
    write_features(mixture, arguments.photos, arguments.out)
    print(f"features of {arguments.photos:,} photos: {time.perf_counter() - started:.0f} s", flush=True)
    most = arguments.max_photos
    fits = [("itq", most), ("posterior-itq", most), ("posterior-itq", arguments.times * most)]
    for method, photos in fits if arguments.times > 1 else fits[:2]:
        # An option that is given twice has its last value.
        command = [sys.executable, *sys.argv, "--method", method, "--max-photos", str(photos)]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(result, end="", flush=True)
        with (arguments.out / "results.jsonl").open("a") as file:
            file.write(result)


if __name__ == "__main__":
    main()
