"""Options of the commands that train."""

from __future__ import annotations

import click

from milvus_fghash.cli.options.common import Option, combined
from milvus_fghash.cli.options.paths import NEW_PATH
from milvus_fghash.cli.options.photos import photo_options

training_options: Option = combined(
    photo_options("set by the recipe"),
    click.option("--weights",
                 help="Initial weights: imagenet, imagenet-v2, pretrained (timm), none, or a file.  [default: set "
                 "by the recipe]"),
    click.option("--set", "changes", metavar="KEY=VALUE", multiple=True,
                 help="Change a setting of the recipe, such as training.rounds=3. May be repeated."),
    click.option("--device", help="Torch device: cpu, cuda, cuda:1 and so on.  [default: cuda if available]"),
    click.option("--feature-cache", type=NEW_PATH,
                 help="Folder in which features of a frozen backbone are cached.  [default: inside --out]"),
)  # fmt: skip
"""`recipes.loader.with_weights` merges ``changes`` and ``weights``."""
