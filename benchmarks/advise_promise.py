"""How often the later figure of the cell that `advise` recommends lies in its interval.

    python benchmarks/advise_promise.py DATA --weights FILE --feature-cache FOLDER [--trials 10] [--minutes 2]

Each trial draws another train/test split of all photos and asks `advise`. The later figure is mAP of the recommended
method and length under the same protocol, trained with another seed on another split, drawn again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import milvus_fghash as fg
from milvus_fghash.advice.api import FLAGSHIP, SETTING, Run, catalog_of, encoder_changes
from milvus_fghash.advice.encoder import sample_features
from milvus_fghash.advice.measure import measure
from milvus_fghash.datasets.dataset import split_by_class
from milvus_fghash.recipes.loader import compose
from milvus_fghash.training.device import device_named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder")
    parser.add_argument("--weights")
    parser.add_argument("--feature-cache", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--test-share", type=float, default=0.5)
    given = parser.parse_args()

    photos = fg.read_dataset(given.data)
    changes = encoder_changes(given.encoder, given.weights)
    recipe = compose(SETTING, FLAGSHIP, changes)
    computed = sample_features(
        recipe, photos, given.feature_cache, device_named(None), float("inf"), lambda done, total: None
    )
    inside = narrow = 0
    for trial in range(given.trials):
        advice = fg.advise(
            split_by_class(photos, given.test_share, trial),
            encoder=given.encoder,
            weights=given.weights,
            minutes=given.minutes,
            most_photos=len(photos),
            seed=trial,
            feature_cache=given.feature_cache,
        )
        one = advice.recommendation
        later = catalog_of(split_by_class(photos, given.test_share, 1000 + trial), computed.features, 1000 + trial)
        run = Run(later, computed.backbone, changes, 1000 + trial, 0.0, lambda done, total, what: None)
        cell = measure(later, run.recipe(one.method, 1000 + trial), [one.bits], one.protocol, computed.backbone)[0].cell
        figure = cell.quality.map if cell.quality else cell.neighbours
        inside += one.low <= figure <= one.high
        narrow += one.high - one.low <= 0.06
        print(
            f"trial {trial}: {one.method} {one.bits} bits, {one.value:.3f} ({one.low:.3f} to {one.high:.3f}), "
            f"later {figure:.3f}, {advice.seconds:.0f} s",
            flush=True,
        )
    print(f"inside in {inside} of {given.trials}; at most .06 wide in {narrow}")


if __name__ == "__main__":
    main()
