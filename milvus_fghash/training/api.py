"""`train`, the public entry: a recipe, photos, and a folder for the checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from milvus_fghash.datasets.read import Dataset, parse_location, read_dataset
from milvus_fghash.recipes.loader import load_recipe, with_weights
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.draws import with_seed
from milvus_fghash.training.run import Watcher, run_training

SILENT: Final = Watcher()


def train(
    recipe: str | Path | Recipe,
    photos: str | Path | Dataset | None = None,
    *,
    out: str | Path,
    catalog: str | Path | Dataset | None = None,
    bits: int = 48,
    layout: str | None = None,
    weights: str | Path | None = None,
    changes: Sequence[str] = (),
    seed: int | None = None,
    resume: bool = False,
    device: str | None = None,
    feature_cache: str | Path | None = None,
    watcher: Watcher = SILENT,
) -> Path:
    """Train a hashing network.

    Args:
        recipe: a shipped name such as ``frozen-posterior-itq`` (see `recipe_names`), a ``.toml`` file, or a recipe of
            `load_recipe`.
        photos: a folder, a list (CSV, Parquet) or a `Dataset`; the files must be on this machine. Of photos in splits,
            the training split is used. Most methods need a label for each photo; ``posterior-itq`` uses those that
            there are, ``itq`` none.
        out: folder for the checkpoints and curves; it must not hold another training.
        catalog: the photos that will be searched, in the same forms; all of them, in any split, are trained on with
            ``photos``, or alone. Their labels are used where there are some.
        bits: length of a code, 8 to 1024.
        layout: layout of ``photos`` (or of a ``catalog`` alone), a key of `DATASETS`. Default: the recipe's, else
            detected.
        weights: ``imagenet`` or ``imagenet-v2`` (torchvision's, downloaded once), ``pretrained`` (timm's), ``none``, or
            a file of weights. Default: the recipe's.
        changes: changes of the recipe, KEY=VALUE each, such as ``training.rounds=3``.
        seed: seed of the training and of the method's random choices. Default: the recipe's.
        resume: continue from the last finished round in ``out``; start if there is none.
        device: ``cpu``, ``cuda``, ``cuda:1`` and so on. Default: ``cuda`` if available.
        feature_cache: folder for the features of a frozen backbone, shared between trainings. Default: in ``out``.
        watcher: callbacks for steps, rounds and messages.

    Returns:
        Folder of the last checkpoint, to pass to `export`.

    Raises:
        ConfigError: when the recipe cannot be read or does not fit the photos, or ``out`` holds a training.
        DataError: when photos cannot be used.
        NotFinite: when a loss is not finite.
        TrainingError: when a checkpoint cannot be used.
        MissingExtra: when a package of training is not installed.

    Examples:
        >>> import milvus_fghash as fg
        >>> fg.train("frozen-posterior-itq", "photos", out="runs/birds", bits=128, weights="imagenet")  # doctest: +SKIP
        >>> fg.train("frozen-posterior-itq", "birds", catalog="catalog", out="runs/both")  # doctest: +SKIP
    """
    loaded = load_recipe(recipe, with_weights(changes, weights))
    if seed is not None:
        loaded = with_seed(loaded, seed)
    named = layout or (loaded.data.layout if loaded.data.layout != "auto" else None)
    dataset = None if photos is None else _local(photos, named)
    own = None if catalog is None else _local(catalog, named if photos is None else None)
    return run_training(
        loaded,
        bits,
        dataset,
        Path(out),
        catalog=own,
        resume=resume,
        device=device,
        feature_cache=None if feature_cache is None else Path(feature_cache),
        watcher=watcher,
    )


def _local(photos: str | Path | Dataset, layout: str | None) -> Dataset:
    """Photos that are files on this machine."""
    if not isinstance(photos, Dataset):
        photos = read_dataset(parse_location(photos), layout)
        photos.check_paths()
    photos.check_local()
    return photos
