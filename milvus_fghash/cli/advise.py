"""`milvus-fghash advise`: which method and how many bits fit these photos."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from milvus_fghash.cli.options.common import json_option
from milvus_fghash.cli.options.paths import NEW_PATH, READABLE
from milvus_fghash.cli.options.photos import PhotoOptions, notify_dataset, photo_options
from milvus_fghash.cli.terminal.output import show_json, show_table
from milvus_fghash.cli.terminal.progress import progress_bar
from milvus_fghash.errors import optional_extra

if TYPE_CHECKING:
    from milvus_fghash.advice.result import Advice


@click.command()
@click.argument("data", type=READABLE)
@photo_options()
@click.option("--encoder", help="Name of the backbone, or an ONNX file.  [default: mobilenet_v2]")
@click.option("--weights", help="Weights of the encoder: imagenet, imagenet-v2, or a file.  [default: imagenet]")
@click.option("--set", "changes", metavar="KEY=VALUE", multiple=True,
              help="Change a setting of the encoder or the preprocessing in all recipes, such as "
              "backbone.mean=[0.5,0.5,0.5]. May be repeated.")  # fmt: skip
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=10.0,
              help="Time that the measurements may take.")  # fmt: skip
@click.option("--most-photos", type=click.IntRange(min=60), default=6000,
              help="Size of the sample; smaller where the time is too short.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Random seed.")
@click.option("--device", help="Torch device: cpu, cuda, cuda:1 and so on.  [default: cuda if available]")
@click.option("--feature-cache", type=NEW_PATH,
              help="Folder in which features are cached, for `train` too.  [default: a temporary one]")  # fmt: skip
@click.option("--html", type=NEW_PATH, help="Write an HTML page with a plot and examples to this file.")
@json_option
def advise(data: Path, reading: PhotoOptions, html: Path | None, as_json: bool, **options: Any) -> None:
    """Say which method and how many bits fit the photos in DATA.

    A sample of the photos is measured with several methods and code lengths: on new photos (B), on new classes (C), and
    fitted without labels (D). Photos need no labels; without any, codes are compared with the encoder's features.

    \b
    Example: milvus-fghash advise photos --minutes 10 --html advice.html
    """
    with optional_extra("train"):
        from milvus_fghash.advice.api import advise as run
    if html is not None:
        from milvus_fghash.evaluation.plots import check_matplotlib

        check_matplotlib()
    dataset = reading.read_files(data)
    if html is not None:
        dataset.keep_apart(html)
    notify_dataset(dataset)
    with progress_bar("measuring") as update:
        advice = run(dataset, progress=lambda *of: update(*of) if of[1] else update.stage(of[2]), **options)
    command = train_command(advice, data, reading, options)
    if html is not None:
        from milvus_fghash.advice.page import write_advice_page

        write_advice_page(html, advice, dataset.root, command)
    if as_json:
        show_json({**advice.model_dump(), "command": command})
    else:
        from milvus_fghash.advice.tables import rows, summary

        show_table(rows(advice), f"{summary(advice)}\n\n{advice.recommendation.sentence}\n{command}")


def train_command(advice: Advice, data: Path, reading: PhotoOptions, options: Mapping[str, Any]) -> str:
    """The command that trains what is recommended, as it was measured, on all photos."""
    chosen = advice.recommendation
    words = ["milvus-fghash", "train", chosen.recipe, "--bits", str(chosen.bits), "--data", str(data), *reading.words()]
    words += ["--out", f"runs/{chosen.method}-{chosen.bits}"]
    for change in chosen.changes:
        key, _, value = change.partition("=")
        words += ["--weights", json.loads(value)] if key == "backbone.weights" else ["--set", change]
    for name in ("device", "feature_cache"):
        if options[name] is not None:
            words += [f"--{name.replace('_', '-')}", str(options[name])]
    if options["seed"]:
        words += ["--seed", str(options["seed"])]
    return shlex.join(words)
