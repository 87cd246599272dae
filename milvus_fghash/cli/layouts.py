"""`milvus-fghash layouts`: list the dataset layouts."""

from __future__ import annotations

import click

from milvus_fghash.cli.options.common import json_option
from milvus_fghash.cli.terminal.output import show_json, show_table


@click.command()
@json_option
def layouts(as_json: bool) -> None:
    """List the dataset layouts that can be read.

    \b
    Example: milvus-fghash layouts
    """
    from milvus_fghash.datasets.read import DATASETS

    rows = [
        {"name": name, "title": card.title, "layout": card.layout, "source": card.source}
        for name, card in DATASETS.items()
    ]
    if as_json:
        show_json(rows)
    else:
        show_table(rows)
