"""`milvus-fghash train`: recipe and photos -> checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from milvus_fghash.cli.options.common import json_option
from milvus_fghash.cli.options.paths import NEW_PATH, READABLE
from milvus_fghash.cli.options.photos import PhotoOptions, notify_dataset
from milvus_fghash.cli.options.training import training_options
from milvus_fghash.cli.terminal.messages import notify
from milvus_fghash.cli.terminal.output import show
from milvus_fghash.cli.terminal.progress import Update, progress_bar
from milvus_fghash.core.code_length import MAX_BITS, MIN_BITS
from milvus_fghash.errors import optional_extra

if TYPE_CHECKING:
    from milvus_fghash.training.checkpoint import RoundRecord
    from milvus_fghash.training.loop import TrainingProgress
    from milvus_fghash.training.run import Watcher


@click.command()
@click.argument("recipe", default="frozen-posterior-itq")
@click.option("--bits", type=click.IntRange(MIN_BITS, MAX_BITS), default=48, help="Code length in bits.")
@click.option("--data", type=READABLE, help="Folder or list of the photos; of photos in splits, the training split.")
@click.option(
    "--catalog",
    type=READABLE,
    help="Folder or list of the photos that will be searched: all of them are "
    "trained on, with --data or alone. Their labels are used where there are some.",
)
@training_options
@click.option("--out", type=NEW_PATH, required=True, help="Folder for checkpoints and logs.")
@click.option("--seed", type=click.IntRange(min=0), help="Random seed.  [default: set by the recipe]")
@click.option("--resume", is_flag=True, help="Resume after the last completed round in --out.")
@json_option
def train(
    recipe: str,
    bits: int,
    data: Path | None,
    catalog: Path | None,
    reading: PhotoOptions,
    out: Path,
    changes: tuple[str, ...],
    weights: str | None,
    seed: int | None,
    resume: bool,
    device: str | None,
    feature_cache: Path | None,
    as_json: bool,
) -> None:
    """Train a hash network on photos, as RECIPE says.

    RECIPE is a built-in name (see `milvus-fghash recipes`) or a .toml file. Without RECIPE, frozen-posterior-itq is
    used: it learns from the labels that there are, or from none.

    \b
    Example: milvus-fghash train --data photos --bits 128 --out runs/mine
             milvus-fghash train --data birds --catalog catalog --out runs/both
             milvus-fghash train cub-fcaenet --data CUB_200_2011 --out runs/birds
    """
    if data is None and catalog is None:
        raise click.UsageError("Missing option '--data' or '--catalog'.")
    from milvus_fghash.recipes.loader import load_recipe, with_weights

    loaded = load_recipe(recipe, with_weights(changes, weights))
    with optional_extra("train"):
        from milvus_fghash.training.api import train as run
        from milvus_fghash.training.checkpoint import find_checkpoint
    dataset = reading.read_files(data, loaded) if data else None
    own = reading.read_files(catalog, None if data else loaded) if catalog else None
    for part in filter(None, (dataset, own)):
        notify_dataset(part)
    if resume and find_checkpoint(out) is None:
        notify(f"{out} has no checkpoint to resume from; training starts from the beginning.")
    try:
        with progress_bar("training") as update:
            checkpoint = run(
                loaded,
                dataset,
                out=out,
                catalog=own,
                bits=bits,
                seed=seed,
                resume=resume,
                device=device,
                feature_cache=feature_cache,
                watcher=_watcher(update),
            )
    except KeyboardInterrupt:
        if find_checkpoint(out) is not None:
            notify("Run the same command with --resume to continue after the last completed round.")
        raise
    result = {"checkpoint": str(checkpoint), "method": loaded.method.name, "bits": bits}
    show(result, as_json)


def _watcher(update: Update) -> Watcher:
    from milvus_fghash.training.run import Watcher

    epochs = 1

    def step(at: TrainingProgress) -> None:
        nonlocal epochs
        epochs = at.epochs
        terms = "  ".join(f"{name} {value:.4g}" for name, value in at.terms.items())
        update(at.round * at.epochs + at.epoch, at.rounds * at.epochs, f"{terms}  {at.images_per_second:.0f} images/s")

    def finished(record: RoundRecord, rounds: int) -> None:
        quality = "" if record.validation_map is None else f", validation mAP {record.validation_map:.3f}"
        terms = ", ".join(f"{name} {value:.4g}" for name, value in record.terms.items())
        update.finished(f"round {record.round} of {rounds}: {terms}{quality}", record.round * epochs, rounds * epochs)

    return Watcher(
        step,
        finished,
        features=lambda done, total: update(done, total, "features of the frozen backbone"),
        checked=lambda done, total: update(done, total, "photos checked"),
        fitting=update,
        stage=update.stage,
        notify=notify,
    )
