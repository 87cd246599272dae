"""Options of the commands that train."""

from __future__ import annotations

from collections.abc import Callable

import click

from milvus_fghash.cli.options import NEW_PATH, READABLE, Command, all_of
from milvus_fghash.cli.photo_options import photo_options

training_options: Callable[[Command], Command] = all_of(
    click.option("--data", type=READABLE, required=True, help="Folder (or list) of the photos."),
    photo_options("the recipe's"),
    click.option("--weights", help="imagenet, imagenet-v2, none, or a file.  [default: the recipe's]"),
    click.option("--set", "changes", metavar="KEY=VALUE", multiple=True,
                 help="Change the recipe: training.rounds=3; may be repeated."),
    click.option("--device", help="cpu, cuda, cuda:1 and so on.  [default: cuda if there is one]"),
    click.option("--feature-cache", type=NEW_PATH,
                 help="Folder for the features of a frozen backbone.  [default: in --out]"),
)  # fmt: skip
"""Of what trains; `with_weights` says what two of them mean."""
