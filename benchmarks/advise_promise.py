"""How often the later figure of the cell that `advise` recommends lies in its interval.

    python benchmarks/advise_promise.py DATA --weights FILE --feature-cache FOLDER [--trials 10] [--minutes 2]
    python benchmarks/advise_promise.py --drawn FOLDER --weights FILE --feature-cache FOLDER

Features of all photos are computed first. Each trial draws another train/test split of all photos and asks `advise`.
The later figure is mAP of the recommended method and length on new photos, trained with another seed on another split,
drawn again from all photos: as `train` and `evaluate` would find it. `--drawn` draws bird photos into a folder first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import milvus_fghash as fg
from milvus_fghash.advice.api import catalog_of, encoder_changes
from milvus_fghash.advice.encoder import sample_features
from milvus_fghash.advice.measure import Trial
from milvus_fghash.advice.run import FLAGSHIP, SETTING
from milvus_fghash.core.labels import class_names
from milvus_fghash.datasets.dataset import split_by_class
from milvus_fghash.datasets.synthetic.drawings import draw_birds
from milvus_fghash.methods import ON_FEATURES_ALONE
from milvus_fghash.recipes.loader import compose
from milvus_fghash.training.device import device_named
from milvus_fghash.training.draws import with_seed

DRAWN_CLASSES, DRAWN_PHOTOS, DRAWN_SIDE = 40, 30, 96
LATER = 1000
"""Added to the number of a trial: seed of its later split and training."""
WIDEST = 0.06


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--drawn", type=Path, help="instead of DATA: an empty folder")
    parser.add_argument("--encoder")
    parser.add_argument("--weights")
    parser.add_argument("--feature-cache", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--test-share", type=float, default=0.5)
    parser.add_argument("--set", action="append", default=[], help="change of all recipes, such as backbone.views=0")
    given = parser.parse_args()
    if (given.data is None) == (given.drawn is None):
        parser.error("give DATA or --drawn")
    torch.set_num_threads(1)

    if given.drawn:
        each = DRAWN_PHOTOS // 2
        photos = draw_birds(given.drawn, classes=DRAWN_CLASSES, train_per_class=each, test_per_class=each,
                            size=DRAWN_SIDE)  # fmt: skip
    else:
        photos = fg.read_dataset(given.data)
    changes = encoder_changes(given.encoder, given.weights)
    changes = (*changes, *given.set)
    computed = sample_features(
        compose(SETTING, FLAGSHIP, changes), photos, given.feature_cache, device_named(None), float("inf"),
        lambda done, total: None,
    )  # fmt: skip
    inside = narrow = 0
    for trial in range(given.trials):
        advice = fg.advise(
            split_by_class(photos, given.test_share, trial),
            encoder=given.encoder,
            weights=given.weights,
            changes=given.set,
            minutes=given.minutes,
            most_photos=len(photos),
            seed=trial,
            feature_cache=given.feature_cache,
        )
        one, later = advice.recommendation, trial + LATER
        catalog = catalog_of(split_by_class(photos, given.test_share, later), computed.features, later)
        recipe = with_seed(compose(SETTING, one.method, (*changes, *ON_FEATURES_ALONE.get(one.method, ()))), later)
        cell = Trial(catalog, recipe, one.protocol, computed.backbone).at(one.bits).cell
        figure = cell.quality.map if cell.quality else cell.neighbours
        inside += one.low <= figure <= one.high
        narrow += one.high - one.low <= WIDEST
        print(
            f"trial {trial}: {one.method} {one.bits} bits, {one.value:.3f} ({one.low:.3f} to {one.high:.3f}, "
            f"{one.trainings} trainings), later {figure:.3f}, {len(advice.cells)} cells, {advice.seconds:.0f} s",
            flush=True,
        )
    print(
        f"{len(photos):,} photos of {len(class_names(photos.labels))} classes: inside in {inside} of {given.trials}; "
        f"at most {WIDEST} wide in {narrow}"
    )


if __name__ == "__main__":
    main()
